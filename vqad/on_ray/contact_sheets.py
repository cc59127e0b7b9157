"""Contact sheets, each drawn by a task on the cluster."""

from collections.abc import Sequence
from typing import Any

import ray

from vqad.inspection.job import InspectJob
from vqad.inspection.run_report import ROWS_PER_SHEET, draw_sheet
from vqad.inspection.summary import InspectSummary, Say
from vqad.storage import files, output_layout


def write_sheets(
    job: InspectJob, summary: InspectSummary, say: Say, *, num_sheets: int
) -> list[str]:
    """Write up to ``num_sheets`` pages under ``OUTPUT/sheets/RUN``; returns their URIs."""
    written: list[str] = []
    for page in range(1, num_sheets + 1):
        rows = summary.most_severe[(page - 1) * ROWS_PER_SHEET : page * ROWS_PER_SHEET]
        if rows:
            uri = output_layout.sheet(job.output, summary.run, page)
            task: Any = ray.remote(num_cpus=1)(_write_sheet)
            ray.get(task.remote(uri, rows, job.models, summary.versions))
            say(f"contact sheet: {uri}")
            written.append(uri)
    return written


def _write_sheet(
    uri: str, rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]
) -> None:
    files.write_bytes(uri, draw_sheet(rows, models, versions))
