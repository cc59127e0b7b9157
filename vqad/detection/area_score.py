"""One score from the largest values of a field over several areas, and a map that agrees with it.

A small defect raises a few places by much, a large one many by little. So the mean of the k
largest values is taken for several k, each counted in deviations from what it is on normal
images, and the most unusual of them is the score:

    score = 10 + max over k of (mean of k largest - usual) / deviation

10 is the score of a usual normal image, so that scores and thresholds stay above 0.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, TypeVar

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from vqad.array_types import AnomalyMap, OwnMap
from vqad.detection import image_threads, score
from vqad.images.placement import Counted, Placement, Places, SomePlaces, places_of

T = TypeVar("T")
U = TypeVar("U")

UNIT: Final = "deviations of normal images, from 10"
USUAL_SCORE: Final = 10.0
# Of the field's places; 2, 8, 32, 128 and 512 of 64 x 64.
_SHARES: Final = (2 / 4096, 8 / 4096, 32 / 4096, 128 / 4096, 512 / 4096)
_LOW: Final = 0.5  # of a field; lower values only keep their order
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


def usual_areas(
    fields: Sequence[Float32[ndarray, "rows cols"]],
    places: Sequence[Places | None] | SomePlaces | None = None,
) -> UsualAreas:
    """Measure normal images; ``places`` are those that count, None for all."""
    each = [None] * len(fields) if places is None else places
    levels = np.array([_largest(field, some) for field, some in zip(fields, each, strict=True)])
    medians = np.median(levels, axis=0)
    deviations = np.maximum(levels.std(0) + _FLOOR * np.abs(medians), 1e-6)
    return UsualAreas(medians=medians.tolist(), deviations=deviations.tolist())


def area_score(
    field: Float32[ndarray, "rows cols"], usual: UsualAreas, places: Places | None = None
) -> float:
    """Score of a field, at least 0; about 10 on normal images. Only ``places`` count, if given."""
    away = (_largest(field, places) - np.array(usual.medians)) / np.array(usual.deviations)
    return float(np.float32(max(0.0, USUAL_SCORE + float(away.max()))))


def _largest(
    field: Float32[ndarray, "rows cols"], places: Places | None
) -> Float64[ndarray, " areas"]:
    some = field if places is None else field[places]
    values = np.sort(some, axis=None)[::-1].astype(np.float64)
    # Of all places, so that an area is as large in an image with padding. The mean of more places
    # than count is that of those that do.
    counts = [max(1, round(share * field.size)) for share in _SHARES]
    return np.array([values[:count].mean() for count in counts])


def wide_field(field: Float32[ndarray, "rows cols"], *, size_px: int) -> AnomalyMap:
    """The field at the size of the model's input, as a map has it."""
    return positive(cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR))


def positive(field: Float32[ndarray, "rows cols"]) -> Float32[ndarray, "rows cols"]:
    """The field with all values above 0, in the same order: low ones fall exponentially.

    A large defect has places that are less unusual than the mean of normal ones. With 0 there,
    local statistics alone had a pixel AUROC of .647 in place of .656 on magnetic tiles.
    """
    low = np.float32(_LOW)
    return np.where(field < low, low * np.exp(np.minimum(field, low) / low - 1), field)


def agreeing_map(
    anomaly_map: AnomalyMap,
    *,
    image_score: float,
    minimum_area_px: int,
    inside: Counted | None = None,
) -> AnomalyMap:
    """The map with as much changed as makes `score.score` of it the score of the image.

    So a defect has a component of the minimum area above the threshold and a normal image has none,
    whatever the threshold is. If the map's own score is larger, what is above the image's score is
    compressed to just around it, and keeps its order. If it is smaller, the component around the
    map's largest values is raised. Only what is ``inside`` is, if it is given; the rest of the map
    is 0.
    """
    wanted = np.float32(image_score)
    level = score.score(anomaly_map, minimum_area_px=minimum_area_px)
    if level == wanted:
        return anomaly_map
    if level < wanted:
        raised = anomaly_map >= level
        # Without a component above 0 the level is 0, which the map has outside as well.
        raised = raised if inside is None else raised & inside
        return np.where(raised, np.maximum(anomaly_map, wanted), anomaly_map)
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
    placements: Sequence[Placement] | None = None,
    placements_of_copies: Sequence[Sequence[Placement]] | None = None,
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
    usual = usual_areas(fields, _places_of(placements, fields))
    scores = scores_of(fields, usual, placements)
    of_copies = [scores_of(some, usual, its) for some, its in _pairs(copies, placements_of_copies)]
    threshold = max([threshold_of(scores), *map(threshold_of_copies, of_copies)])
    maps = (
        _placed(wide_field(_filled(field, its), size_px=size_px), its)
        for field, its in _pairs(fields, placements)
    )
    levels = [score.score(each, minimum_area_px=minimum_area_px) for each in maps]
    return rule_of(usual, threshold, levels), threshold, scores


def judged(
    fields: Sequence[Float32[ndarray, "rows cols"]],
    rule: AreaRule,
    *,
    size_px: int,
    minimum_area_px: int,
    placements: Sequence[Placement] | None = None,
) -> tuple[list[float], list[OwnMap]]:
    """The score of each field, and the map that agrees with it and covers the source image."""

    def of_field(
        field: Float32[ndarray, "rows cols"], its: Placement | None
    ) -> tuple[float, OwnMap]:
        found = area_score(field, rule.usual, its.counted_places(len(field)) if its else None)
        wide = _placed(rule.map_of(_filled(field, its), size_px=size_px), its)
        agreeing = agreeing_map(
            wide,
            image_score=found,
            minimum_area_px=minimum_area_px,
            inside=its.inside if its else None,
        )
        return found, agreeing

    both = image_threads.of_each(of_field, fields, placements or [None] * len(fields))
    return [found for found, _ in both], [anomaly_map for _, anomaly_map in both]


def scores_of(
    fields: Sequence[Float32[ndarray, "rows cols"]],
    usual: UsualAreas,
    placements: Sequence[Placement] | None = None,
) -> list[float]:
    """The score of each field, of images that lie in the input as ``placements`` say."""
    places = _places_of(placements, fields)
    each = [None] * len(fields) if places is None else places
    return [area_score(field, usual, some) for field, some in zip(fields, each, strict=True)]


def _places_of(
    placements: Sequence[Placement] | None, fields: Sequence[Float32[ndarray, "rows cols"]]
) -> SomePlaces | None:
    return places_of(placements, len(fields[0])) if placements else None


def _pairs(some: Sequence[T], others: Sequence[U] | None) -> Iterator[tuple[T, U | None]]:
    """Each of some with its other, or with None where there are no others."""
    return zip(some, others or repeat(None, len(some)), strict=True)


def _filled(field: Float32[ndarray, "rows cols"], placement: Placement | None) -> ndarray:
    # A pixel at the edge is interpolated between places of which only one may count.
    return field if placement is None else placement.filled_field(field)


def _placed(square: AnomalyMap, placement: Placement | None) -> OwnMap:
    return square if placement is None else placement.map_of(square)
