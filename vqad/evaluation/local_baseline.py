"""Local statistics alone, as a baseline: no network, fitted in seconds on all normal images.

A detector that is worse than this on a user's data is not worth its training. It has the same
images as the detector, and each of them is scored by statistics of others (`training`).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vqad.array_types import AnomalyMap, Images
from vqad.detection.area_score import AreaRule, fit_rule, judged
from vqad.detection.calibrate import CROSS_FITTED_QUANTILE
from vqad.detection.local_statistics import LocalStatistics, LocalStatisticsConfig
from vqad.detection.settings import Settings
from vqad.detection.weights import (
    DetectorError,
    load_weights,
    read_json,
    record_of,
    to_json,
    weights_of,
)
from vqad.storage import files, uris
from vqad.storage.models_layout import LOCAL_STATISTICS
from vqad.training.local_statistics import fit_statistics, group_names
from vqad.training.options import recorded_options

LOCAL: Final = "local statistics"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class LocalBaselineSettings:
    """What decides its verdicts, and how long its fit took."""

    category: str
    statistics: LocalStatisticsConfig
    rule: AreaRule
    threshold: float  # deviations of normal images, from 10
    minimum_area_px: int
    seconds: float
    bits: int = 16  # significant bits of values in 16-bit files


class LocalBaseline:
    """Fitted local statistics with their threshold."""

    def __init__(self, statistics: LocalStatistics, settings: LocalBaselineSettings) -> None:
        self.statistics = statistics
        self.settings = settings

    def inspect(self, images: Images) -> tuple[list[float], list[AnomalyMap]]:
        """Scores and maps of images (batch, 3, size, size)."""
        settings = self.settings
        judgements = [
            judged(
                field,
                settings.rule,
                threshold=settings.threshold,
                size_px=settings.statistics.features.image_size_px,
                minimum_area_px=settings.minimum_area_px,
            )
            for field in self.statistics.inspect(images.movedim(1, -1).cpu().numpy())
        ]
        return [one for one, _ in judgements], [each for _, each in judgements]

    def save(self, folder: str) -> None:
        """Save as ``folder/{baseline.json, local_statistics.safetensors}``; the JSON last."""
        weights = weights_of(self.statistics)
        files.write_bytes(uris.join(folder, LOCAL_STATISTICS), weights)
        record = {
            "format_version": FORMAT_VERSION,
            "settings": asdict(self.settings),
            "files": {LOCAL_STATISTICS: record_of(weights)},
        }
        files.write_bytes(uris.join(folder, "baseline.json"), to_json(record))

    @classmethod
    def load(cls, folder: str) -> "LocalBaseline":
        """Load a saved one. Raises DetectorError."""
        uri = uris.join(folder, "baseline.json")
        record = read_json(uri)
        if record.get("format_version") != FORMAT_VERSION:
            raise DetectorError(f"{uri} has another format; delete {folder}, to fit it again")
        try:
            settings = TypeAdapter(LocalBaselineSettings).validate_python(record.get("settings"))
        except ValidationError as error:
            raise DetectorError(f"{uri}: {error.errors()[0]['msg']}") from error
        statistics = LocalStatistics(settings.statistics)
        listed: Any = record.get("files")
        recorded = listed.get(LOCAL_STATISTICS) if isinstance(listed, dict) else None
        load_weights(statistics, uris.join(folder, LOCAL_STATISTICS), recorded)
        return cls(statistics, settings)


def local_baseline(
    names: Sequence[str], pixels: np.ndarray, *, settings: Settings
) -> LocalBaseline:
    """Fit to decoded pixels (num, size, size, 3) of all good images.

    ``settings`` are those of the detector that it is to be compared with.
    """
    start_s = time.perf_counter()
    asked = recorded_options(settings.found.options, settings.category)
    size_px, area_px = settings.vqvae.image_size_px, settings.minimum_area_px
    groups = group_names(names, asked.heldout_group)
    fitted = fit_statistics(pixels, groups=groups, seed=asked.seed)
    rule, threshold, _ = fit_rule(
        fitted.fields, quantile=CROSS_FITTED_QUANTILE, size_px=size_px, minimum_area_px=area_px
    )
    found = LocalBaselineSettings(
        category=settings.category,
        statistics=fitted.statistics.config,
        rule=rule,
        threshold=threshold,
        minimum_area_px=area_px,
        seconds=round(time.perf_counter() - start_s, 1),
        bits=settings.bits,
    )
    return LocalBaseline(fitted.statistics, found)
