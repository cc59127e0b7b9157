"""From scores of normal images to a threshold for a rate of false alarms, and what they promise.

Let n normal images have scores, and let a new image be normal and comparable with them. Its score
is then equally likely to take each of the n + 1 ranks among all of them, so it is above the k-th
largest of the n scores with a chance of k / (n + 1), whatever their distribution (equal scores only
lower it). So the threshold for a rate is the k-th largest score, where

    k = floor(rate * (n + 1)),    at least 1

This is the conformal rule. With the largest score the rate is 1 / (n + 1), and n images can promise
none that is smaller. The promise is for the mean over all choices of the n images. The rate of one
choice is spread around it like a Beta(k, n + 1 - k).

vqad/README.md compares this rule with others; tests/campaigns/test_false_alarms.py measures them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vqad.storage.errors import VqadError

Scores = Sequence[float] | Float[ndarray, " n"]

_ROUNDING: Final = 1e-9  # of rate * (n + 1), so that 5 % of 20 is 1 and not 0.99...


class RateError(VqadError, ValueError):
    """A rate of false alarms that the known normal images can't promise."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a threshold means for normal images, by the scores of n of them."""

    num_scores: int  # n
    rate: float  # expected share of normal images above the threshold; an upper bound
    deviation: float  # standard deviation of that share over the choice of the n images

    @property
    def in_ten_thousand(self) -> int:
        """Expected false alarms among 10,000 normal images."""
        return round(10_000 * self.rate)


def smallest_rate(num_scores: int) -> float:
    """The smallest rate that so many scores of normal images can promise."""
    return 1 / (num_scores + 1)


def images_needed(rate: float) -> int:
    """The smallest number of scores that can promise a rate."""
    check_rate(rate)
    return max(1, math.ceil(1 / rate - _ROUNDING) - 1)


def rank_of(rate: float, num_scores: int) -> int:
    """k: the threshold is the k-th largest score. Raises RateError if there are too few scores."""
    check_rate(rate)
    rank = math.floor(rate * (num_scores + 1) + _ROUNDING)
    if not rank:
        raise RateError(cannot_promise(rate, num_scores))
    return min(rank, num_scores)


def threshold_for(scores: Scores, rate: float, *, smallest: float = 0.0) -> float:
    """The threshold for a rate of false alarms, not below ``smallest``, in the type of the tables.

    Raises RateError if there are too few scores.
    """
    rank = rank_of(rate, len(scores))
    value = np.sort(np.asarray(scores, np.float32))[::-1][rank - 1]
    return max(smallest, float(value))


def promise_of(scores: Scores, threshold: float) -> Promise:
    """What a threshold means by the scores of normal images, of which there is at least one."""
    num = len(scores)
    above = int(np.count_nonzero(np.asarray(scores, np.float32) > np.float32(threshold)))
    # The threshold is at least the score of this rank, counted from the largest.
    rate = min(above + 1, num) / (num + 1)
    return Promise(num_scores=num, rate=rate, deviation=math.sqrt(rate * (1 - rate) / (num + 2)))


def check_rate(rate: float) -> None:
    """Raise RateError for what is no rate."""
    if not 0 < rate < 1:
        raise RateError(f"the rate of false alarms must be in (0, 1), got {rate:g}")


def cannot_promise(rate: float, num_scores: int) -> str:
    """Why a rate can't be promised, and what would do."""
    return (
        f"with {num_scores} scores of normal images no rate of false alarms under "
        f"{percent(smallest_rate(num_scores))} can be promised; for {percent(rate)} "
        f"{images_needed(rate)} are needed, or a night's scores"
    )


def percent(rate: float) -> str:
    """A rate as people read it: 4.5 %."""
    return f"{float(f'{100 * rate:.2g}'):g} %"
