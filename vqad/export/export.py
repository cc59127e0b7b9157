"""One export of an output: verdicts and regions for labelling tools. Only reads the output."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

from vqad.export import coco, mask_png
from vqad.export.job import ExportJob
from vqad.export.rows import Left, batches, look
from vqad.storage import errors, files, output_layout

_WRITERS: Final = {"mask-png": mask_png.write, "coco": coco.write}
_LARGEST_RECORD_BYTES: Final = 16 * 2**20


def export(job: ExportJob, say: Callable[[str], None]) -> dict[str, Any]:
    """Write an export; returns the summary. ``say`` takes lines for a person.

    Raises ArchiveError where the output has no verdicts, and IncompleteError where the export could
    not be finished. An inspection may write to the output meanwhile: each of its images is exported
    as it is when its part is read.
    """
    start_s = time.monotonic()
    left = look(job.output)
    archive = _archive_of(job.output)
    with errors.work_begun():
        counts = _WRITERS[job.format](job.folder, batches(job.output, left), archive)
    for line in _notes(job, counts, left):
        say(line)
    return {
        "format": job.format,
        "to": job.folder,
        **counts,
        "rejects": left.rejects,
        "superseded": left.num_superseded,
        "damaged": len(left.damaged),
        "seconds": round(time.monotonic() - start_s, 1),
    }


def _archive_of(output: str) -> str:
    """The archive of the latest run; "" if that is not recorded."""
    try:
        uri = output_layout.latest_run_record(output)
        record = json.loads(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
        found = record["asked"]["archive"]
        return found if isinstance(found, str) else ""
    except (errors.FetchError, ValueError, KeyError, TypeError):
        return ""


def _notes(job: ExportJob, counts: dict[str, int], left: Left) -> list[str]:
    """What is not as complete as one may expect."""
    notes = []
    if number := counts["without_map"]:
        what = "have no mask" if job.format == "mask-png" else "have boxes and no outlines"
        notes.append(
            f"{number} of {counts['images']} images {what}: the output has no anomaly map that "
            "fits their regions; inspect with --maps all or --maps defect"
        )
    if left.rejects:
        notes.append(f"{left.rejects} rejected images are left out: they have no size")
    if left.damaged:
        notes.append(
            f"warning: {len(left.damaged)} parts of the verdicts can't be read, such as "
            f"{left.damaged[0]}; the next inspection makes their verdicts again"
        )
    return notes
