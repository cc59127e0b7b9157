"""Local statistics alone, as a baseline: no network, fitted in seconds on all normal images.

A detector that is worse than this on a user's data is not worth its training. It has the same
images as the detector, and each of them is scored by statistics of others (`training`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vqad.array_types import Images, OwnMap
from vqad.detection.area_score import AreaRule, fit_rule, judged
from vqad.detection.calibrate import cross_fitted_threshold
from vqad.detection.local_statistics import LocalStatistics, LocalStatisticsConfig
from vqad.detection.settings import Settings
from vqad.evaluation import saved_baseline
from vqad.images.placement import Placement, places_of
from vqad.storage.models_layout import LOCAL_STATISTICS
from vqad.training import near_copies
from vqad.training.local_statistics import fit_statistics, group_names
from vqad.training.options import recorded_options

LOCAL: Final = "local statistics"


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

    def inspect(
        self, images: Images, placements: Sequence[Placement] | None = None
    ) -> tuple[list[float], list[OwnMap]]:
        """Scores and maps of images (batch, 3, size, size), which are square without placements."""
        features = self.settings.statistics.features
        places = places_of(placements, features.grid) if placements else None
        return judged(
            self.statistics.inspect(images.movedim(1, -1).cpu().numpy(), places),
            self.settings.rule,
            size_px=features.image_size_px,
            minimum_area_px=self.settings.minimum_area_px,
            placements=placements,
        )

    def save(self, folder: str) -> None:
        """Write ``folder/{local_statistics.safetensors, baseline.json}``, the JSON last."""
        saved_baseline.save(folder, self.settings, self.statistics, weights_name=LOCAL_STATISTICS)

    @classmethod
    def load(cls, folder: str) -> "LocalBaseline":
        """Load a saved one. Raises DetectorError."""
        settings, statistics = saved_baseline.load(
            folder,
            LocalBaselineSettings,
            lambda each: LocalStatistics(each.statistics),
            weights_name=LOCAL_STATISTICS,
        )
        return cls(statistics, settings)


def local_baseline(
    names: Sequence[str],
    pixels: np.ndarray,
    *,
    settings: Settings,
    placements: Sequence[Placement] | None = None,
) -> LocalBaseline:
    """Fit to decoded pixels (num, size, size, 3) of all good images.

    ``settings`` are those of the detector that it is to be compared with. The images lie in the
    pixels as ``placements`` say; None are square.
    """
    start_s = time.perf_counter()
    asked = recorded_options(settings.found.options, settings.category)
    size_px, area_px = settings.vqvae.image_size_px, settings.minimum_area_px
    copies = near_copies.copies(pixels)
    groups = group_names(names, asked.heldout_group, copies=copies)
    fitted = fit_statistics(pixels, groups=groups, seed=asked.seed, placements=placements)
    rule, threshold, _ = fit_rule(
        fitted.fields,
        threshold_of=cross_fitted_threshold,
        size_px=size_px,
        minimum_area_px=area_px,
        placements=None if fitted.placements is None else fitted.placements[: fitted.num_images],
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
