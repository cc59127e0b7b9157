"""Drift: the statistics of a night, compared with those of earlier nights and of the training.

Nights of the same products differ more than the images of a night do: lamps age, and material comes
in batches. So a difference counts only if it is large beside the spread of nights, which the
earlier nights themselves show. Seven nights estimate a spread badly. Therefore it is estimated
together with an assumed one that counts as much as ``ASSUMED_NIGHTS`` nights (a conjugate prior),
and a difference is divided by its standard error and judged by Student's t distribution.

All limits of a night share one rate of false warnings (Bonferroni), so that one warning means
something, however many categories an output has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

from vqad.detection.fit_record import FitRecord
from vqad.inspection.observed_statistics import (
    FEWEST_IMAGES,
    STATISTICS,
    Observed,
    Reference,
    observe,
    observe_record,
    observe_training,
)

# Of an output's quiet nights, the share with a false warning that the limits allow. The limits
# trust that statistics are normally distributed, so this is half of the 1 in 100 that is promised.
FALSE_WARNINGS: Final = 0.005
ASSUMED_NIGHTS: Final = 10  # weight of the assumed spread; a guess
FEWEST_NIGHTS: Final = 3  # for a comparison with earlier nights

# Once there are enough nights, they show what has changed, and the training only where that led to.
# A plant whose training images were a little unusual would else have its false warnings often.
_SHARE_OF_TRAINING: Final = 0.1
_NUM_TESTS: Final[dict[Reference, int]] = {
    reference: sum(reference in each.references for each in STATISTICS.values())
    for reference in ("earlier nights", "training images")
}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One statistic compared with one reference."""

    category: str
    statistic: str
    reference: Reference
    value: float
    expected: tuple[float, float]  # no warning within
    ratio: float  # of the difference to the largest that gives no warning


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A category's night compared with its references."""

    drifts: list[Drift] = field(default_factory=list)
    not_compared: str = ""  # reason


def compare_category(
    category: str,
    night: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    training: FitRecord | None,
    *,
    num_categories: int,
) -> Compared:
    """Compare a night with the earlier ones and with the training.

    All are a category's statistics as `night_statistics` records them, of one detector version.
    """
    if night["images"] < FEWEST_IMAGES:
        return Compared(not_compared=f"{night['images']} images, fewer than {FEWEST_IMAGES}")
    enough = [each for each in earlier if each.get("images", 0) >= FEWEST_IMAGES]
    now, nights = observe(night, training), [observe_record(each, training) for each in enough]
    fitted = observe_training(training, night.get("threshold")) if training else {}
    drifts = []
    for name, observed in now.items():
        before = [each[name] for each in nights if name in each]
        if len(before) >= FEWEST_NIGHTS:
            drifts.append(_with_nights(category, name, observed, before, num_categories))
        if name in fitted:
            drifts.append(
                _with_training(category, name, observed, before, fitted[name], num_categories)
            )
    return Compared(drifts=drifts, not_compared=_too_few(len(enough)))


def _too_few(num_nights: int) -> str:
    if num_nights >= FEWEST_NIGHTS:
        return ""
    return f"{num_nights} earlier nights that are comparable, fewer than {FEWEST_NIGHTS}"


def _with_nights(
    category: str, name: str, now: Observed, before: Sequence[Observed], num_categories: int
) -> Drift:
    variance, freedom = _spread(name, before)
    num = len(before)
    errors = now.error**2 + sum(each.error**2 for each in before) / num**2
    centre = sum(each.scaled for each in before) / num
    error = math.sqrt(variance * (1 + 1 / num) + errors)
    rate = FALSE_WARNINGS * (1 - _SHARE_OF_TRAINING) / num_categories
    limit = error * _quantile(name, rate / _NUM_TESTS["earlier nights"], freedom)
    return _drift(category, name, "earlier nights", now, centre, limit)


def _with_training(
    category: str,
    name: str,
    now: Observed,
    before: Sequence[Observed],
    training: Observed,
    num_categories: int,
) -> Drift:
    """The training counts as one more night: its images differ from a night's as nights do."""
    variance, freedom = _spread(name, before)
    error = math.sqrt(2 * variance + now.error**2 + training.error**2)
    # In the first nights, too, less than all: nothing is known of the spread of nights as yet.
    share = _SHARE_OF_TRAINING if len(before) >= FEWEST_NIGHTS else 0.4
    rate = FALSE_WARNINGS * share / num_categories
    limit = error * _quantile(name, rate / _NUM_TESTS["training images"], freedom)
    return _drift(category, name, "training images", now, training.scaled, limit)


def _spread(name: str, before: Sequence[Observed]) -> tuple[float, float]:
    """Variance between nights on the scale, and its degrees of freedom."""
    values = [each.scaled for each in before]
    mean = sum(values) / max(1, len(values))
    squares = sum((each - mean) ** 2 for each in values)
    freedom = float(ASSUMED_NIGHTS + max(0, len(values) - 1))
    assumed = STATISTICS[name].assumed_spread ** 2
    return (ASSUMED_NIGHTS * assumed + squares) / freedom, freedom


def _quantile(name: str, rate: float, freedom: float) -> float:
    """The quantile of Student's t distribution that chance exceeds at this rate."""
    sides = 1 if STATISTICS[name].only_above else 2
    z = NormalDist().inv_cdf(1 - rate / sides)
    # Wallace's approximation (1959), inverted; exact to 1 % from ten degrees of freedom.
    u = z * (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(u * u / freedom))


def _drift(
    category: str, name: str, reference: Reference, now: Observed, centre: float, limit: float
) -> Drift:
    statistic = STATISTICS[name]
    difference = now.scaled - centre
    low, high = (
        max(0.0, statistic.unscaled(each) + now.offset) for each in (centre - limit, centre + limit)
    )
    return Drift(
        category=category,
        statistic=name,
        reference=reference,
        value=now.value,
        expected=(0.0 if statistic.only_above else low, high),
        ratio=(difference if statistic.only_above else abs(difference)) / limit,
    )
