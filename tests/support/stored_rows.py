"""Rows of verdicts and maps as an inspection stores them, without inspecting an image."""

from datetime import UTC, datetime
from typing import Any

from vqad.array_types import AnomalyMap
from vqad.detection import score
from vqad.detector import Detector


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
