"""What a run leaves for people: contact sheets of the severest images, and run.json."""

import json
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import ray
import torch

from vqad import archives, images, score, shards, sheets
from vqad.detector import Detector
from vqad.fit import to_images, to_tensor
from vqad.on_ray.inspect import InspectJob, InspectSummary, Plan

ROWS_A_SHEET = 8


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
            uri = archives.join(job.output, "sheets", settled.run, f"sheet-{page + 1:03}.png")
            task: Any = ray.remote(num_cpus=1)(_write_sheet)
            ray.get(task.remote(uri, rows, job.models, settled.versions))
            say(f"contact sheet: {uri}")
            left.append(uri)
    return left


def _write_sheet(
    uri: str, rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]
) -> None:
    archives.write_bytes(uri, sheet_of(rows, models, versions))


def sheet_of(rows: Sequence[dict[str, Any]], models: str, versions: dict[str, str]) -> bytes:
    """One page as PNG: the images of these verdict rows, fetched and inspected once more."""
    detectors: dict[str, Detector] = {}
    shown = []
    for row in rows:
        category = row["category"]
        if category not in detectors:
            detectors[category] = Detector.load(models, category, version=versions[category])
        try:
            shown.append(_shown(row, detectors[category]))
        except (archives.FetchError, images.ImageError):
            continue  # it was there a moment ago; its verdict row stands
    return sheets.encode(sheets.sheet(shown))


def _shown(row: dict[str, Any], detector: Detector) -> sheets.SheetRow:
    data = _bytes_of(row["image"])
    pixels = images.decode(data, size_px=detector.settings.vqvae.image_size_px).pixels
    found = detector.inspect(to_images(to_tensor(pixels[None])))
    with torch.inference_mode():
        restored = detector.pictures(found.restored_codes.to(detector.device))[0]
    return sheets.SheetRow(
        image=(images.to_unit(pixels) * 255).round().astype(np.uint8),
        restored=restored,
        anomaly_map=found.anomaly_maps[0],
        threshold=detector.settings.threshold,
        verdict=score.verdict(found.scores[0], detector.settings.threshold),
        score=found.scores[0],
        caption=row["image"],
    )


def _bytes_of(image: str) -> bytes:
    shard, separator, _ = image.partition("#")
    if separator:
        return shards.read_member(image, size_bytes=shards.size_of(shard))
    return archives.read_bytes(image, max_bytes=images.MAX_BYTES)


def write_run(job: InspectJob, summary: InspectSummary, *, asked: dict[str, Any]) -> None:
    """Write ``runs/RUN.json`` and, as the latest, ``run.json``."""
    record = {
        "run": summary.run,
        "asked": asked,
        "listed": summary.listed,
        "skipped": summary.skipped,
        "images": summary.images,
        "categories": {
            category: {verdict: counts[verdict] for verdict in ("normal", "defect", "reject")}
            for category, counts in sorted(summary.by_category.items())
        },
        "errors": dict(sorted(summary.errors.items())),
        "model_versions": summary.versions,
        "orphan_maps_removed": summary.orphans_removed,
        "superseded_verdicts_removed": summary.superseded_removed,
        "warnings": summary.warnings,
        "seconds": summary.seconds,
        "stage_seconds": {name: round(each, 2) for name, each in summary.stage_seconds.items()},
        "command": shlex.join(["vqad", *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("ray", "torch", "opencv-python", "pyarrow")},
        },
    }
    data = (json.dumps(record, indent=2) + "\n").encode()
    archives.write_bytes(archives.join(job.output, "runs", f"{summary.run}.json"), data)
    archives.write_bytes(archives.join(job.output, "run.json"), data)
