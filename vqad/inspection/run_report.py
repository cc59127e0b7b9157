"""The report of a run: contact sheets of the most severe images, and run.json."""

import json
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import torch

from vqad.array_types import Codes
from vqad.detection import score
from vqad.detection.evidence import Inspection
from vqad.detection.stitched import stitched
from vqad.detector import Detector
from vqad.images import decoding, headers, shards
from vqad.images.tensors import to_images, to_tensor
from vqad.inspection import contact_sheet, history, metrics
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import shown_url
from vqad.inspection.summary import InspectSummary, shadow_record
from vqad.storage import errors, files, output_layout

ROWS_PER_SHEET: Final = 8
_SHOWN_PX: Final = 256  # side of a picture of an image with tiles
_NUMBERS: Final = re.compile(r"\[\n([-+.,\deE\s]+)\]")
_MOST_STRAYS: Final = 1000  # lines of run.json, which must stay readable


def draw_sheet(rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]) -> bytes:
    """One page as PNG: the images of these verdict rows, fetched and inspected once more.

    No bytes if none of the images is there any more.
    """
    detectors: dict[str, Detector] = {}
    drawn = []
    for row in rows:
        category = row["category"]
        if category not in detectors:
            detectors[category] = Detector.load(models, category, version=versions[category])
        try:
            drawn.append(_sheet_row(row, detectors[category]))
        except (errors.FetchError, headers.ImageError):
            continue  # the image is gone or changed since; its verdict row stays
    return contact_sheet.encode(contact_sheet.sheet(drawn)) if drawn else b""


def _sheet_row(row: dict[str, Any], detector: Detector) -> contact_sheet.SheetRow:
    data = _read_image(row["image"])
    if detector.settings.tiling is not None:
        return _sheet_row_of_tiles(row, detector, data)
    decoded = decoding.decode_as(detector.settings.image_form, data)
    pixels = decoding.to_full_range(decoded.pixels, detector.settings.bits)
    inspected = detector.inspect(to_images(to_tensor(pixels[None])), [decoded.source_px])
    placement = inspected.placements[0]
    with torch.inference_mode():
        restored = detector.pictures(inspected.restored_codes.to(detector.device))[0]
    image = placement.cropped((decoding.to_unit(pixels) * 255).round().astype(np.uint8))
    return _shown(row, detector, inspected, image, placement.picture_of(restored))


def _sheet_row_of_tiles(
    row: dict[str, Any], detector: Detector, data: bytes
) -> contact_sheet.SheetRow:
    image = decoding.decode_whole(data)
    if reason := detector.settings.image_form.refusal((image.width_px, image.height_px)):
        raise headers.ImageError("unsupported", reason)
    inspected, whole = detector.inspect_whole(image)

    def pictures_of(codes: Codes) -> np.ndarray:
        with torch.inference_mode():
            return detector.pictures(codes.to(detector.device))

    restored = stitched(whole.grid, whole.restored_codes, pictures_of, most_px=_SHOWN_PX)
    pixels = decoding.to_full_range(image.small(_SHOWN_PX), detector.settings.bits)
    shown = (decoding.to_unit(pixels) * 255).round().astype(np.uint8)
    return _shown(row, detector, inspected, shown, restored)


def _shown(
    row: dict[str, Any],
    detector: Detector,
    inspected: Inspection,
    image: np.ndarray,
    restored: np.ndarray,
) -> contact_sheet.SheetRow:
    return contact_sheet.SheetRow(
        image=image,
        restored=restored,
        anomaly_map=inspected.anomaly_maps[0],
        threshold=detector.settings.threshold,
        verdict=score.verdict(inspected.scores[0], detector.settings.threshold),
        score=inspected.scores[0],
        caption=row["image"],
    )


def _read_image(image: str) -> bytes:
    shard, separator, _ = image.partition("#")
    if separator:
        return shards.read_member(image, size_bytes=shards.size_of(shard))
    return files.read_bytes(image, max_bytes=decoding.MAX_BYTES)


def write_run(
    job: InspectJob,
    summary: InspectSummary,
    *,
    asked: dict[str, Any] | None = None,
    command: str = "inspect",
) -> None:
    """Write ``runs/RUN.json``, ``run.json`` as the latest of them, and ``metrics.prom``.

    ``asked`` are the options as they were given; the job's where they are None. Later nights are
    compared with this one only if ``command`` is inspect.
    """
    record = {
        "run": summary.run,
        "archive_pattern": history.archive_pattern(job),
        "asked": asdict(job) if asked is None else asked,
        **_counts(summary),
        "stage_seconds": {name: round(each, 2) for name, each in summary.stage_seconds.items()},
        "command": command,
        "command_line": shlex.join(["vqad", *map(shown_url, sys.argv[1:])]),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("ray", "torch", "opencv-python", "pyarrow")},
        },
    }
    data = _json(record)
    files.write_bytes(output_layout.run_record(job.output, summary.run), data)
    files.write_bytes(output_layout.latest_run_record(job.output), data)
    text = metrics.text(job, summary)
    files.write_bytes(output_layout.metrics(job.output), text.encode())


def _json(record: dict[str, Any]) -> bytes:
    """Indented, but a list of numbers is one line: a histogram of codes has hundreds of them."""
    text = json.dumps(record, indent=2, default=str)
    # Within a text of JSON a line break is escaped, so that this matches lists alone.
    found = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
    return (found + "\n").encode()


def _counts(summary: InspectSummary) -> dict[str, Any]:
    return {
        "listed": summary.listed,
        "skipped": summary.skipped,
        "images": summary.images,
        "left_out": dict(summary.left_out.most_common()),
        "passed_over": summary.passed_over[:_MOST_STRAYS],
        "categories": {
            category: {verdict: counts[verdict] for verdict in ("normal", "defect", "reject")}
            for category, counts in sorted(summary.by_category.items())
        },
        "statistics": {
            category: each.record() for category, each in sorted(summary.statistics.items())
        },
        "errors": dict(sorted(summary.errors.items())),
        "model_versions": summary.versions,
        "shadow": shadow_record(summary),
        "orphan_maps_removed": summary.orphans_removed,
        "superseded_verdicts_removed": summary.superseded_removed,
        "warnings": [each.record() for each in summary.warnings],
        "compared_with_runs": summary.comparison.runs,
        "not_compared": summary.comparison.not_compared,
        "expected": summary.comparison.expected(),
        "parts": summary.product_parts.record() if summary.product_parts else None,
        "seconds": summary.seconds,
    }
