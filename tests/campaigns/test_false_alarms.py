"""Rules from n scores of normal images to a threshold: promised against measured false alarms.

The rules are compared on drawn scores of several distributions: the quantile of the scores, the
conformal rule that the product has, peaks over a threshold (a generalised Pareto tail, by
probability-weighted moments, Hosking and Wallis 1987), and the largest score of a tenth, which
promises 1 / (n / 10 + 1). It takes seconds.

    pytest -m slow -s tests/campaigns/test_false_alarms.py
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.training.test_full_form import fitted_washer
from tests.training.test_networks import drawn_pixels
from vqad.detection.false_alarms import promise_of, rank_of, smallest_rate, threshold_for
from vqad.images.tensors import to_images, to_tensor

pytestmark = pytest.mark.slow

NUM_SPLITS = 200
NUM_JUDGED = 20_000
RATES = (0.05, 0.02, 0.01, 0.005)
NUMS = (20, 50, 200, 1000)
DISTRIBUTIONS: dict[str, Callable[[Any, int], Any]] = {
    "gamma": lambda rng, num: rng.gamma(4, size=num),
    "normal": lambda rng, num: rng.normal(10, 1, size=num),
    "lognormal": lambda rng, num: rng.lognormal(0, 0.7, size=num),
    "student": lambda rng, num: 10 + rng.standard_t(3, size=num),
    "bounded": lambda rng, num: rng.beta(2, 3, size=num),
    # One image in thirty looks different, as those of another batch or of a dirty lens.
    "two kinds": lambda rng, num: rng.normal(10, 1, size=num) + 6 * (rng.random(num) < 1 / 30),
}


def quantile(scores: Any, rate: float) -> float:
    return float(np.quantile(scores, 1 - rate))


def conformal(scores: Any, rate: float) -> float:
    return threshold_for(scores, max(rate, smallest_rate(len(scores))))


def peaks(scores: Any, rate: float) -> float:
    """The tail above the largest fifth (at least ten) as a generalised Pareto distribution."""
    ordered = np.sort(scores)
    num = min(len(scores) - 1, max(10, len(scores) // 5))
    base, excesses = ordered[-num - 1], ordered[-num:] - ordered[-num - 1]
    share = num / len(scores)
    if rate >= share:
        return quantile(scores, rate)
    first = excesses.mean()
    weighted = float(np.mean((num - np.arange(1, num + 1)) / (num - 1) * excesses))
    shape = 2 - first / (first - 2 * weighted)  # xi
    scale = 2 * first * weighted / (first - 2 * weighted)
    if abs(shape) < 1e-6:
        return float(base + scale * np.log(share / rate))
    return float(base + scale / shape * ((share / rate) ** shape - 1))


def of_a_tenth(scores: Any, rate: float) -> float:
    return float(np.max(scores[: max(1, len(scores) // 10)]))


RULES = {
    "quantile": quantile,
    "conformal": conformal,
    "peaks": peaks,
    "largest of 1/10": of_a_tenth,
}


def measured(draw: Callable[[Any, int], Any], num: int, seed: int) -> dict[str, Any]:
    """The false-alarm rate of each rule and promised rate, for each split."""
    rng = np.random.default_rng(seed)
    judged = np.sort(draw(rng, NUM_JUDGED * 10))
    found: dict[str, Any] = {name: np.empty((NUM_SPLITS, len(RATES))) for name in RULES}
    for split in range(NUM_SPLITS):
        scores = draw(rng, num)
        for at, rate in enumerate(RATES):
            for name, rule in RULES.items():
                above = len(judged) - np.searchsorted(judged, rule(scores, rate), side="right")
                found[name][split, at] = above / len(judged)
    return found


def test_the_conformal_rule_keeps_its_promise_within_its_stated_spread() -> None:
    sys.stdout.write("\nmeasured rate in %: mean ± deviation (worst mean of a distribution)\n")
    for num in NUMS:
        by_distribution = [
            measured(draw, num, seed) for seed, draw in enumerate(DISTRIBUTIONS.values())
        ]
        for at, rate in enumerate(RATES):
            line = [f"n {num:4}, promised {100 * rate:3.1f} %:"]
            for name in RULES:
                rates = np.array([each[name][:, at] for each in by_distribution])
                means = rates.mean(1)
                line.append(
                    f"{name} {100 * means.mean():.2f} ± {100 * rates.std(1).mean():.2f} "
                    f"({100 * means.max():.2f})"
                )
            sys.stdout.write("  ".join(line) + "\n")
            if rate * (num + 1) < 1 - 1e-9:
                continue  # it is refused
            _check(np.array([each["conformal"][:, at] for each in by_distribution]), num, rate)


def _check(rates: Any, num: int, rate: float) -> None:
    rank = rank_of(rate, num)
    promise = promise_of([float(each) for each in range(num)], float(num - rank))
    assert promise.rate <= rate + 1e-9
    for of_distribution in rates:
        error = promise.deviation / np.sqrt(NUM_SPLITS)
        assert of_distribution.mean() <= promise.rate + 4 * error
        assert of_distribution.std() == pytest.approx(promise.deviation, rel=0.25)


@pytest.mark.parametrize("num", [200, 1000])
def test_two_thousand_drawn_images_that_the_networks_never_saw(num: int) -> None:
    """Forty random splits into images that set the threshold and images that are judged."""
    scores = np.array(_drawn_scores(2000))
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.02, 0.01):
        found: dict[str, list[float]] = {"conformal": [], "largest of 1/10": []}
        for _ in range(40):
            shuffled = rng.permutation(scores)
            for name, rates in found.items():
                threshold = RULES[name](shuffled[:num], rate)
                rates.append(float(np.mean(shuffled[num:] > threshold)))
        told = ", ".join(
            f"{name} {100 * np.mean(each):.2f} ± {100 * np.std(each):.2f} %"
            for name, each in found.items()
        )
        sys.stdout.write(f"\n{num} of 2000 drawn images, promised {100 * rate:g} %: {told}")
        stated = promise_of([float(at) for at in range(num)], float(num - rank_of(rate, num)))
        assert np.mean(found["conformal"]) <= rate + stated.deviation


@cache
def _drawn_scores(num: int) -> list[float]:
    detector = fitted_washer()
    pixels = drawn_pixels(num + 24)[24:]  # the first ones were fitted
    batches = to_images(to_tensor(pixels)).split(16)
    return [score for batch in batches for score in detector.inspect(batch).scores]
