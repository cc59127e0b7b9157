"""One score from the largest values of a field over several areas, and a map that agrees with it.

A small defect raises a few places by much, a large one many by little. So the mean of the k
largest values is taken for several k, each counted in deviations from what it is on normal
images, and the most unusual of them is the score:

    score = 10 + max over k of (mean of k largest - usual) / deviation

10 is the score of a usual normal image, so that scores and thresholds stay above 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection import image_threads, score

UNIT: Final = "deviations of normal images, from 10"
USUAL_SCORE: Final = 10.0
# Of the field's places; 2, 8, 32, 128 and 512 of 64 x 64.
_SHARES: Final = (2 / 4096, 8 / 4096, 32 / 4096, 128 / 4096, 512 / 4096)
_SMALLEST_LEVEL: Final = 1e-3  # of a field; 1 is the usual largest value of a normal image
_LEAST_ABOVE: Final = 0.5  # deviations; of a threshold above `USUAL_SCORE`, for the map's scale
# Of the score; larger values of a map are compressed to agree with it. With .9, a twelfth less of
# the defects was marked.
_KEPT: Final = 0.999
_FLOOR: Final = 0.05  # of the usual value, added to each deviation: few images understate it


@dataclass(frozen=True, kw_only=True)
class UsualAreas:
    """The mean of the largest values on normal images, for each area."""

    medians: list[float]
    deviations: list[float]

    def __post_init__(self) -> None:
        """Refuse what no score can be made with."""
        if not len(self.medians) == len(self.deviations) == len(_SHARES):
            raise ValueError(f"usual areas must be {len(_SHARES)}, got {len(self.medians)}")
        if not all(np.isfinite(self.medians)) or not all(
            0 < one < np.inf for one in self.deviations
        ):
            raise ValueError("usual areas must be finite, and their deviations above 0")


def usual_areas(fields: Sequence[Float32[ndarray, "rows cols"]]) -> UsualAreas:
    """Measure normal images."""
    levels = np.array([_largest(field) for field in fields])
    medians = np.median(levels, axis=0)
    deviations = np.maximum(levels.std(0) + _FLOOR * np.abs(medians), 1e-6)
    return UsualAreas(medians=medians.tolist(), deviations=deviations.tolist())


def area_score(field: Float32[ndarray, "rows cols"], usual: UsualAreas) -> float:
    """Score of a field, at least 0; about 10 on normal images."""
    away = (_largest(field) - np.array(usual.medians)) / np.array(usual.deviations)
    return float(np.float32(max(0.0, USUAL_SCORE + float(away.max()))))


def _largest(field: Float32[ndarray, "rows cols"]) -> Float64[ndarray, " areas"]:
    values = np.sort(field, axis=None)[::-1].astype(np.float64)
    counts = [max(1, round(share * values.size)) for share in _SHARES]
    return np.array([values[:count].mean() for count in counts])


def wide_field(field: Float32[ndarray, "rows cols"], *, size_px: int) -> AnomalyMap:
    """The field at the size of the model's input, 0 where nothing is unusual."""
    return cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR).clip(0)


def agreeing_map(
    anomaly_map: AnomalyMap, *, image_score: float, minimum_area_px: int
) -> AnomalyMap:
    """The map with as much changed as makes `score.score` of it the score of the image.

    So a defect has a component of the minimum area above the threshold and a normal image has none,
    whatever the threshold is. If the map's own score is larger, what is above the image's score is
    compressed to just around it, and keeps its order. If it is smaller, the component around the
    map's largest values is raised.
    """
    wanted = np.float32(image_score)
    level = score.score(anomaly_map, minimum_area_px=minimum_area_px)
    if level == wanted:
        return anomaly_map
    if level < wanted:
        return np.where(anomaly_map >= level, np.maximum(anomaly_map, wanted), anomaly_map)
    kept = _KEPT * float(wanted)
    # As float64, so that the level itself becomes the score in bits.
    above = kept + (anomaly_map.astype(np.float64) - kept) * ((wanted - kept) / (level - kept))
    compressed = np.where(anomaly_map == level, wanted, above.astype(np.float32))
    return np.where(anomaly_map > kept, compressed, anomaly_map)


@dataclass(frozen=True, kw_only=True)
class AreaRule:
    """How a field becomes a score and a map."""

    usual: UsualAreas
    scale: float  # of the map, so that the threshold of the scores is one of the map as well
    # From this value of the map on, another scale holds; detectors of an older program have none.
    bend: float | None = None
    scale_above: float = 1.0

    def __post_init__(self) -> None:
        """Refuse scales that make no map."""
        for name in ("scale", "scale_above"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if self.bend is not None and not 0 < self.bend < np.inf:
            raise ValueError(f"bend must be above 0 and finite, got {self.bend}")

    def map_of(self, field: Float32[ndarray, "rows cols"], *, size_px: int) -> AnomalyMap:
        """The map of a field, before it agrees with a score."""
        return self.scaled(wide_field(field, size_px=size_px))

    def scaled(self, wide: AnomalyMap) -> AnomalyMap:
        """The map of a field that has the size of the map."""
        found = wide * np.float32(self.scale)
        if self.bend is None:
            return found
        bent = (wide - np.float32(self.bend / self.scale)) * np.float32(self.scale_above)
        return np.where(found > self.bend, bent.clip(0) + np.float32(self.bend), found)


def rule_of(usual: UsualAreas, threshold: float, levels: Sequence[float]) -> AreaRule:
    """The rule with the scales of the map; ``levels`` are the scores of normal images' fields."""
    level = max(float(np.median(levels)), _SMALLEST_LEVEL)
    bend = max(threshold, _SMALLEST_LEVEL)
    return AreaRule(
        usual=usual,
        scale=bend / level,
        bend=bend,
        scale_above=max(threshold - USUAL_SCORE, _LEAST_ABOVE) / level,
    )


def fit_rule(
    fields: Sequence[Float32[ndarray, "rows cols"]],
    *,
    threshold_of: Callable[[Sequence[float]], float],
    size_px: int,
    minimum_area_px: int,
    copies: Sequence[Sequence[Float32[ndarray, "rows cols"]]] = (),
    threshold_of_copies: Callable[[Sequence[float]], float] = max,
) -> tuple[AreaRule, float, list[float]]:
    """The rule, the threshold, and the score of each normal image by the rule.

    ``threshold_of`` gives the threshold of scores. The map's scale is such that half of the normal
    images would have a component above the threshold if the score did not decide that. With a scale
    by which as few have one as are above the threshold, a few odd normal images set it so high that
    most of a defect was not marked: a pixel F1 of .25 in place of .41 on four products.
    ``copies`` are fields of harmless copies, those of each change together. They raise the
    threshold to the largest one of ``threshold_of_copies``, and nothing else: what is usual is that
    of the images, so that a few extreme copies hide no defect.

    Above the threshold the map grows as the score does, by deviations: a region that is n times as
    unusual as one at the threshold has n times the distance from `USUAL_SCORE`. With the scale of
    below, a map's values were two to four times its image's score. Made to agree with it, they did
    not compare between images: AU-PRO was .774 in place of .784 on five products.
    """
    usual = usual_areas(fields)

    def scores_of(some: Sequence[Float32[ndarray, "rows cols"]]) -> list[float]:
        return [area_score(field, usual) for field in some]

    scores = scores_of(fields)
    threshold = max(
        [threshold_of(scores), *(threshold_of_copies(scores_of(some)) for some in copies)]
    )
    maps = (wide_field(field, size_px=size_px) for field in fields)
    levels = [score.score(each, minimum_area_px=minimum_area_px) for each in maps]
    return rule_of(usual, threshold, levels), threshold, scores


def judged(
    fields: Sequence[Float32[ndarray, "rows cols"]],
    rule: AreaRule,
    *,
    size_px: int,
    minimum_area_px: int,
) -> tuple[list[float], list[AnomalyMap]]:
    """The score of each field, and the map that agrees with it."""

    def of_field(field: Float32[ndarray, "rows cols"]) -> tuple[float, AnomalyMap]:
        found = area_score(field, rule.usual)
        wide = rule.map_of(field, size_px=size_px)
        return found, agreeing_map(wide, image_score=found, minimum_area_px=minimum_area_px)

    both = image_threads.of_each(of_field, fields)
    return [found for found, _ in both], [anomaly_map for _, anomaly_map in both]
