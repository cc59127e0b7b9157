"""Contact sheets, each drawn by a task on the cluster."""

from collections.abc import Sequence
from typing import Any

import ray

from vqad.inspection.run_report import ROWS_PER_SHEET, draw_sheet
from vqad.inspection.summary import Say
from vqad.storage import files, output_layout


def write_sheets(
    most_severe: Sequence[dict[str, Any]],
    say: Say,
    *,
    output: str,
    run: str,
    models: str,
    versions: dict[str, str],
    num_sheets: int,
) -> list[str]:
    """Write up to ``num_sheets`` pages under ``OUTPUT/sheets/RUN``; returns their URIs.

    ``most_severe`` are verdict rows, and ``versions`` those of the detectors by category.
    """
    written: list[str] = []
    for page in range(1, num_sheets + 1):
        rows = most_severe[(page - 1) * ROWS_PER_SHEET : page * ROWS_PER_SHEET]
        if rows:
            uri = output_layout.sheet(output, run, page)
            task: Any = ray.remote(num_cpus=1)(_write_sheet)
            if ray.get(task.remote(uri, rows, models, versions)):
                say(f"contact sheet: {uri}")
                written.append(uri)
            else:
                say(f"contact sheet {page} is left out: none of its images can be read any more")
    return written


def _write_sheet(
    uri: str, rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]
) -> bool:
    """Write a page; False if there is nothing to be drawn."""
    drawn = draw_sheet(rows, models, versions)
    if drawn:
        files.write_bytes(uri, drawn)
    return bool(drawn)
