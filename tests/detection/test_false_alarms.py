"""The rule from scores of normal images to a threshold for a rate of false alarms."""

import re

import numpy as np
import pytest

from vqad.detection.false_alarms import (
    RateError,
    images_needed,
    percent,
    promise_of,
    rank_of,
    smallest_rate,
    threshold_for,
)
from vqad.detection.p_value import p_value


@pytest.mark.parametrize(
    ("rate", "num", "rank"),
    [
        *((0.05, 19, 1), (0.05, 21, 1), (0.05, 39, 2), (0.005, 199, 1), (0.01, 1000, 10)),
        *((0.29, 99, 29), (0.07, 99, 7), (0.9, 1, 1), (0.999, 5, 5)),
    ],
)
def test_the_threshold_is_the_score_of_this_rank(rate: float, num: int, rank: int) -> None:
    assert rank_of(rate, num) == rank
    scores = np.random.default_rng(0).permutation(np.arange(1.0, num + 1))
    assert threshold_for(scores, rate) == num + 1 - rank


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.05, 19), (0.02, 49), (0.01, 99), (0.005, 199), (0.5, 1), (0.9, 1)]
)
def test_with_as_many_images_as_needed_and_no_fewer_a_rate_can_be_promised(
    rate: float, needed: int
) -> None:
    assert images_needed(rate) == needed
    assert rank_of(rate, needed) >= 1
    if needed > 1:
        with pytest.raises(RateError, match="can be promised"):
            rank_of(rate, needed - 1)


def test_too_few_images_are_told_what_would_do() -> None:
    message = (
        "with 21 scores of normal images no rate of false alarms under 4.5 % can be promised; for "
        "0.5 % 199 are needed, or a night's scores"
    )
    with pytest.raises(RateError, match=re.escape(message)):
        threshold_for([float(each) for each in range(21)], 0.005)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(RateError, match=re.escape("must be in (0, 1)")):
        rank_of(rate, 100)


@pytest.mark.parametrize("num", [1, 7, 21, 200])
def test_a_threshold_is_expected_to_give_the_rate_of_its_rank(num: int) -> None:
    scores = np.random.default_rng(num).gamma(2, size=num)
    for rank in range(1, num + 1):
        threshold = float(np.sort(scores)[-rank])
        assert promise_of(scores, threshold).rate == pytest.approx(rank / (num + 1))
    assert promise_of(scores, float(scores.max()) + 1).rate == pytest.approx(smallest_rate(num))
    assert promise_of(scores, -1.0).rate == pytest.approx(num / (num + 1))


def test_a_score_above_the_threshold_has_a_p_value_of_at_most_the_rate() -> None:
    scores = np.random.default_rng(0).gamma(2, size=300)
    for rate in (0.01, 0.05, 0.3):
        threshold = threshold_for(scores, rate)
        above = p_value(
            float(np.nextafter(np.float32(threshold), np.float32(9e9))), scores.tolist()
        )
        at = p_value(threshold, scores.tolist())
        assert above is not None
        assert at is not None
        assert above <= rate < at


def test_the_smallest_threshold_bounds_the_rate_from_above() -> None:
    assert threshold_for([0.0] * 40, 0.05, smallest=1.0) == 1.0
    assert promise_of([0.0] * 40, 1.0).rate == pytest.approx(1 / 41)


@pytest.mark.parametrize(("num", "rate"), [(21, 0.05), (200, 0.05), (200, 0.01)])
def test_the_rate_is_kept_on_the_mean_with_the_stated_deviation(num: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    measured, stated = [], []
    for _ in range(2000):
        scores = rng.exponential(size=num)
        threshold = threshold_for(scores, rate)
        measured.append(np.exp(-threshold))  # the share of all images above it
        stated.append(promise_of(scores, threshold))
    assert np.mean(measured) == pytest.approx(stated[0].rate, rel=0.06)
    assert stated[0].rate <= rate
    assert np.std(measured) == pytest.approx(stated[0].deviation, rel=0.08)


@pytest.mark.parametrize(
    ("rate", "text"), [(0.05, "5 %"), (1 / 22, "4.5 %"), (0.005, "0.5 %"), (0.00012, "0.012 %")]
)
def test_rates_are_shown_as_percentages(rate: float, text: str) -> None:
    assert percent(rate) == text
