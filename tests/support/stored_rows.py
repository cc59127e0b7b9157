"""Rows of verdicts and maps as an inspection stores them, without inspecting an image."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from vqad import tables
from vqad.array_types import AnomalyMap
from vqad.detection import score
from vqad.detector import Detector
from vqad.inspection import sink

_REJECT = dict.fromkeys(tables.VERDICTS.names) | {
    **dict.fromkeys(("error_detail", "model_version", "source_etag"), ""),
    "verdict": "reject",
    "regions": [],
    "error": "unreadable",
    "run": "run",
}


def stored_row(
    image: str,
    value: float,
    anomaly_map: AnomalyMap,
    detector: Detector,
    *,
    source_px: int,
    run: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of a score with its regions, and the row of its map; a square image of one side."""
    height_px, width_px = anomaly_map.shape
    source = {"source_width_px": source_px, "source_height_px": source_px}
    regions = detector.regions(anomaly_map, **source)
    common = {
        "image": image,
        "category": detector.settings.category,
        "model_version": detector.version,
    }
    verdict = common | {
        "verdict": score.verdict(value, detector.settings.threshold),
        "score": value,
        "threshold": detector.settings.threshold,
        "codes_changed": 1,
        "regions": [vars(each) for each in regions],
        "width_px": source_px,
        "height_px": source_px,
        "error": "",
        "error_detail": "",
        "source_etag": "1",
        "inspected_at": datetime.now(UTC),
        "run": run,
    }
    sizes = {"map_height_px": height_px, "map_width_px": width_px}
    return verdict, common | sizes | {"anomaly_map": anomaly_map.ravel()}


def write_rejects(output: str, categories: Mapping[str, str]) -> None:
    """Verdicts of these images, by their category: rejects, so there are no numbers and no maps."""
    for category in sorted(set(categories.values())):
        rows = [
            _REJECT | {"image": image, "category": category, "inspected_at": datetime.now(UTC)}
            for image, its_category in categories.items()
            if its_category == category
        ]
        verdicts = pa.Table.from_pylist(rows, schema=tables.VERDICTS)
        sink.write_part(output, verdicts, tables.MAPS.empty_table())
