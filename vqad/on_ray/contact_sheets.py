"""Contact sheets made by a task on the cluster."""

from collections.abc import Callable, Sequence
from typing import Any

import ray

from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan
from vqad.inspection.run_report import ROWS_A_SHEET, sheet_of
from vqad.inspection.summary import InspectSummary
from vqad.storage import files, uris


def write_sheets(
    job: InspectJob,
    settled: Plan,
    summary: InspectSummary,
    say: Callable[[str], None],
    *,
    num_sheets: int,
) -> list[str]:
    """Leave up to ``num_sheets`` pages under ``OUTPUT/sheets/RUN``; returns their URIs."""
    left: list[str] = []
    for page in range(num_sheets):
        rows = summary.severest[page * ROWS_A_SHEET : (page + 1) * ROWS_A_SHEET]
        if rows:
            uri = uris.join(job.output, "sheets", settled.run, f"sheet-{page + 1:03}.png")
            task: Any = ray.remote(num_cpus=1)(_write_sheet)
            ray.get(task.remote(uri, rows, job.models, settled.versions))
            say(f"contact sheet: {uri}")
            left.append(uri)
    return left


def _write_sheet(
    uri: str, rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]
) -> None:
    files.write_bytes(uri, sheet_of(rows, models, versions))
