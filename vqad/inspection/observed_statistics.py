"""The statistics by which nights are compared, each on a scale on which differences mean the same.

They are read from ``run.json``, and those of the training from the record of the fit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vqad.detection.fit_record import FitRecord
from vqad.images.measures import MEASURES

_SMALLEST: Final = 1e-3  # of a value whose logarithm is taken; far below a visible one
FEWEST_IMAGES: Final = 30  # of a category, in a night that is compared

Reference = Literal["earlier nights", "training images"]


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A number that describes a category's night, and the scale on which nights are compared.

    On that scale differences are about normally distributed, and mean the same everywhere.
    """

    name: str
    shown: str  # its sentence in a warning; {} is the value
    scaled: Callable[[float], float]
    unscaled: Callable[[float], float]
    # Standard deviation between quiet nights that is assumed at first, on the scale (guesses).
    assumed_spread: float
    digits: str = ".4g"  # format of the value
    only_above: bool = False  # a smaller value is no reason for a warning
    references: tuple[Reference, ...] = ("earlier nights", "training images")


def _share_scaled(share: float) -> float:
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def _share_unscaled(scaled: float) -> float:
    return math.sin(min(max(scaled, 0.0), math.pi / 2)) ** 2


def _log(value: float) -> float:
    return math.log(max(value, _SMALLEST))


def _same(value: float) -> float:
    return value


_SHARES: Final[dict[str, Any]] = {
    "scaled": _share_scaled,
    "unscaled": _share_unscaled,
    "digits": ".1%",
    "assumed_spread": 0.015,  # at a share of 5 %: 0.65 %
    "references": ("earlier nights",),  # a training has no defects and no rejects
}
# Nine tenths of the images lie within. A tenth of another product makes it larger at once, a
# single odd image does not.
_RANGES: Final[dict[str, Any]] = {
    "scaled": _log,
    "unscaled": math.exp,
    "assumed_spread": 0.08,
    "only_above": True,
    "references": ("earlier nights",),  # trainings record mean and deviation alone
}
_LOOKS: Final[dict[str, Any]] = {"scaled": _log, "unscaled": math.exp}
STATISTICS: Final = {
    each.name: each
    for each in (
        Statistic(name="defect_share", shown="{} of the images are defects", **_SHARES),
        Statistic(
            name="reject_share",
            shown="{} of the images are rejects",
            only_above=True,
            **_SHARES,
        ),
        Statistic(name="brightness", shown="brightness is {}", assumed_spread=0.008, **_LOOKS),
        Statistic(name="contrast", shown="contrast is {}", assumed_spread=0.015, **_LOOKS),
        Statistic(name="sharpness", shown="sharpness is {}", assumed_spread=0.02, **_LOOKS),
        *(
            Statistic(
                name=f"{name}_range",
                shown=f"the range of {name} over most images is {{}}",
                **_RANGES,
            )
            for name in MEASURES
        ),
        Statistic(
            # In thresholds.
            name="score_median",
            shown="the median score is {} thresholds",
            scaled=math.log1p,
            unscaled=math.expm1,
            assumed_spread=0.03,
            digits=".3g",
        ),
        Statistic(
            # From the histogram of the training, above what chance lets expect.
            name="code_distance",
            shown="the codes' distance from those of the training is {}",
            scaled=_same,
            unscaled=_same,
            assumed_spread=0.01,
            digits=".3g",
            only_above=True,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One statistic of a night, or of the training."""

    value: float
    scaled: float
    error: float  # standard error on the scale, because a night has so many images and no more
    offset: float = 0.0  # was subtracted from the value before it was scaled


def observe(night: Mapping[str, Any], training: FitRecord | None = None) -> dict[str, Observed]:
    """The statistics of a category in ``run.json``; of too few images, the shares alone."""
    num = int(night["images"])
    found = {f"{name}_share": _share(int(night[f"{name}s"]), num) for name in ("defect", "reject")}
    num_judged = num - int(night["rejects"])
    if num_judged < FEWEST_IMAGES:
        return found
    for name in MEASURES:
        found[name] = _look(night[name]["mean"], night[name]["deviation"], num_judged)
        found[f"{name}_range"] = _range(night[name]["high"] - night[name]["low"], num_judged)
    quantiles = [night["score_quantiles"][name] for name in ("0.25", "0.5", "0.75")]
    if threshold := night["threshold"]:
        found["score_median"] = _median([each / threshold for each in quantiles], num_judged)
    if distance := _code_distance(night["code_counts"], num_judged, training):
        found["code_distance"] = distance
    return found


def observe_record(night: Mapping[str, Any], training: FitRecord | None) -> dict[str, Observed]:
    """The statistics of an earlier night; none if its record can't be understood."""
    try:
        return observe(night, training)
    except (KeyError, TypeError, ValueError):  # of another version of this program, or damaged
        return {}


def observe_training(training: FitRecord, threshold: float | None) -> dict[str, Observed]:
    """The same statistics of the training's normal images, as far as they were recorded."""
    found = {}
    if normal := training.normal:
        for name in MEASURES:
            spread = getattr(normal, name)
            found[name] = _look(spread.mean, spread.deviation, normal.num_images)
        if expected := normal.expected_distance(normal.num_held_out):
            # Distances are measured from the training, so that is at 0.
            error = expected.error_of_held_out
            found["code_distance"] = Observed(value=0.0, scaled=0.0, error=error)
    scores = training.cross_fitted_scores or training.held_out_scores
    if threshold and scores:
        quantiles = np.quantile(np.asarray(scores, np.float64) / threshold, (0.25, 0.5, 0.75))
        found["score_median"] = _median(quantiles.tolist(), len(scores))
    return found


def _share(number: int, num_images: int) -> Observed:
    # Anscombe's corrections of the arcsine transform, for small shares.
    scaled = _share_scaled((number + 0.375) / (num_images + 0.75))
    error = 0.5 / math.sqrt(num_images + 0.5)
    return Observed(value=number / max(1, num_images), scaled=scaled, error=error)


def _look(mean: float, deviation: float, num_images: int) -> Observed:
    error = deviation / max(mean, _SMALLEST) / math.sqrt(num_images)
    return Observed(value=mean, scaled=_log(mean), error=error)


def _range(width: float, num_images: int) -> Observed:
    # Of normally distributed values: each of the two quantiles has the variance 4.47 / n, their
    # covariance is 0.235 / n, and they are 3.29 deviations apart.
    return Observed(value=width, scaled=_log(width), error=0.89 / math.sqrt(num_images))


def _median(quartiles: Sequence[float], num_images: int) -> Observed:
    low, middle, high = map(math.log1p, quartiles)
    # Of normally distributed values: the deviation is the distance of the quartiles by 1.349, and
    # the error of a median is 1.2533 times that of a mean.
    error = 1.2533 * (high - low) / 1.349 / math.sqrt(num_images)
    return Observed(value=quartiles[1], scaled=middle, error=error)


def _code_distance(
    counts: Sequence[int], num_images: int, training: FitRecord | None
) -> Observed | None:
    normal = training.normal if training else None
    expected = normal.expected_distance(num_images) if normal else None
    if normal is None or expected is None or len(counts) != len(normal.code_counts):
        return None
    distance = normal.distance(np.asarray(counts))
    return Observed(
        value=distance,
        scaled=distance - expected.mean,
        error=expected.error_of_images,
        offset=expected.mean,
    )
