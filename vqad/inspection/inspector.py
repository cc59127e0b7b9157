"""The stage of an inspection that needs networks: decoded rows in, verdict rows and maps out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch

from vqad.detection.weights import DetectorError
from vqad.detection.whole_images import looks_and_counts
from vqad.detector import Detector
from vqad.images.tensors import filled
from vqad.inspection import shadow, shadow_rows, whole_rows
from vqad.inspection.array_columns import rows_of, table_of
from vqad.inspection.batches import batch_of, chunks, measured, sources_of
from vqad.inspection.detector_cache import DetectorCache
from vqad.inspection.stages import INSPECTED


@dataclass(frozen=True, kw_only=True)
class InspectorOptions:
    """The settings of a run that its inspectors need."""

    models: str  # URI
    versions: dict[str, str]  # of the pinned detector, by category
    run: str
    batch_size: int  # images
    maps: str  # as in InspectJob
    num_threads: int  # of torch
    shadows: dict[str, str] = field(default_factory=dict)  # versions of second detectors


class Inspector:
    """Inspects decoded images of any category."""

    def __init__(self, options: InspectorOptions) -> None:
        torch.set_num_threads(options.num_threads)
        self.options = options
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.detectors = DetectorCache(options.models, options.versions, device)
        self.shadows = DetectorCache(options.models, options.shadows, device)

    def inspect(self, decoded: pa.Table) -> pa.Table:
        """Verdict rows, each with its map, or null where no map is to be written."""
        rows = list(rows_of(decoded))
        result = [self._reject(row) for row in rows if row["error"]]
        decoded_rows = [row for row in rows if not row["error"]]
        decoded_rows.sort(key=lambda row: row["category"])
        for category, group in groupby(decoded_rows, key=lambda row: row["category"]):
            if self.detectors.get(category).settings.tiling:
                result += [self._inspect_whole(category, row) for row in group]
                continue
            for batch in chunks(list(group), self.options.batch_size):
                result += self._inspect(category, batch)
        return table_of(result, INSPECTED)

    def _inspect(self, category: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        start_s = time.monotonic()
        detector = self.detectors.get(category)
        sources = sources_of(rows)
        placements = detector.geometry.placements(len(rows), sources)
        batch = filled(batch_of(rows, detector.settings), placements)
        found = detector.inspect(batch, sources)
        looks = measured(batch, found.codes, detector.settings.vqvae.num_codes)
        shadows = self._shadows(category, rows)
        result = [
            self._row(row, detector, found, at) | looks[at] | {"shadow": shadows[at]}
            for at, row in enumerate(rows)
        ]
        share_s = (time.monotonic() - start_s) / len(rows)
        return [row | {"inspect_seconds": share_s} for row in result]

    def _inspect_whole(self, category: str, row: dict[str, Any]) -> dict[str, Any]:
        """An image with tiles, which is read here: one such image is in memory at a time."""
        detector, batch_size = self.detectors.get(category), self.options.batch_size
        opened = whole_rows.opened(row, detector.settings.image_form)
        row, image = opened.row, opened.image
        if image is None:
            return self._reject(row)
        start_s = time.monotonic()
        found, whole = detector.inspect_whole(image, batch_size=batch_size)
        second = None
        if category in self.options.shadows:
            second = whole_rows.shadow_of(row, self.shadows.get(category), image, batch_size)
        return {
            **self._row(row, detector, found, 0),
            **looks_and_counts(whole, detector.settings.vqvae.num_codes),
            "shadow": second,
            "inspect_seconds": time.monotonic() - start_s,
        }

    def _row(self, row: dict[str, Any], detector: Detector, found: Any, at: int) -> dict[str, Any]:
        anomaly_map = found.anomaly_maps[at]
        maps = self.options.maps
        keep = maps == "all" or (maps == "defect" and found.verdicts[at] == "defect")
        return self._common(row) | {
            **shadow.judged(row, detector, found, at),
            "map_height_px": anomaly_map.shape[0],
            "map_width_px": anomaly_map.shape[1],
            "anomaly_map": anomaly_map if keep else None,
        }

    def _shadows(
        self, category: str, rows: list[dict[str, Any]]
    ) -> Sequence[dict[str, Any] | None]:
        """The shadow's verdict of each row; None where the category has no shadow."""
        if category not in self.options.shadows:
            return [None] * len(rows)
        try:
            detector = self.shadows.get(category)
            found = detector.inspect(batch_of(rows, detector.settings), sources_of(rows))
        except DetectorError:
            return [None] * len(rows)  # the summary counts them, and the night goes on
        return [shadow.judged(row, detector, found, at) for at, row in enumerate(rows)]

    def _reject(self, row: dict[str, Any]) -> dict[str, Any]:
        category = row["category"]
        own = shadow_rows.rejected(self.options.versions.get(category, ""))
        version = self.options.shadows.get(category)
        second = {"shadow": version and shadow_rows.rejected(version)}
        return self._common(row) | own | second | {"inspect_seconds": 0.0}

    def _common(self, row: dict[str, Any]) -> dict[str, Any]:
        common = {name: row[name] for name in INSPECTED.names if name in row}
        return common | {"inspected_at": datetime.now(UTC), "run": self.options.run}
