"""Quiet nights are seldom warned of, and a change that a person would notice is, the same night."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.support.simulated_nights import Product
from vqad.detection.fit_record import FitRecord
from vqad.inspection.drift import Drift, compare_category
from vqad.inspection.history import NUM_RUNS

NUM_CATEGORIES = 15


def exceeded(
    now: dict[str, Any], earlier: list[dict[str, Any]], training: FitRecord | None = None
) -> set[tuple[str, str]]:
    """Statistics and references that are warned of."""
    found = compare_category("pill", now, earlier, training, num_categories=NUM_CATEGORIES)
    return {(each.statistic, each.reference) for each in found.drifts if each.ratio > 1}


def product(seed: int = 0, **changes: Any) -> Product:
    return Product(rng=np.random.default_rng(seed), **changes)


def nights_with_a_warning(num_nights: int, *, seed: int = 0) -> Counter[str]:
    """Simulate quiet nights of an output; the number with a warning, and of each statistic."""
    rng = np.random.default_rng(seed)
    products = [
        product(
            1000 * seed + number,
            spread=float(rng.uniform(0, 0.015)),
            defects=float(rng.uniform(0, 0.1)),
            rejects=float(rng.choice([0, 0.001, 0.01])),
        )
        for number in range(NUM_CATEGORIES)
    ]
    outputs = [
        (each, each.training(), int(rng.choice([40, 100, 300])), list[Any]()) for each in products
    ]
    found: Counter[str] = Counter()
    for _ in range(num_nights):
        unusual: set[tuple[str, str]] = set()
        for each, training, num_images, earlier in outputs:
            night = each.night(int(num_images * rng.uniform(0.75, 1.25)))
            one = exceeded(night, earlier[-NUM_RUNS:], training)
            if not any(reference == "earlier nights" for _, reference in one):
                earlier.append(night)
            unusual |= one
        found.update({name for name, _ in unusual})
        found["nights"] += bool(unusual)
    return found


def test_quiet_nights_hardly_ever_have_a_warning() -> None:
    assert nights_with_a_warning(12)["nights"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_at_most_one_of_a_hundred_quiet_nights_has_a_warning() -> None:
    """1,000 nights of 15 categories, all statistics and both references together."""
    found = nights_with_a_warning(1000, seed=1)
    assert found["nights"] <= 10, found


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        ({"light": 0.9}, "brightness"),
        ({"light": 1.12}, "brightness"),
        ({"focus": 0.8}, "sharpness"),
    ],
)
def test_a_change_is_seen_in_its_first_night(change: dict[str, float], statistic: str) -> None:
    for seed in range(5):
        pills = product(seed, spread=0.007)
        training, earlier = pills.training(), [pills.night(100) for _ in range(NUM_RUNS)]
        found = exceeded(pills.night(100, **change), earlier, training)
        assert (statistic, "earlier nights") in found
        assert (statistic, "training images") in found


def test_dimmer_light_is_seen_in_the_very_first_night_of_an_output() -> None:
    for seed in range(5):
        pills = product(seed, spread=0.005)
        assert exceeded(pills.night(100, light=0.88), [], pills.training()) == {
            ("brightness", "training images")
        }


def test_a_tenth_of_another_product_is_seen_by_codes() -> None:
    for seed in range(5):
        pills = product(seed, spread=0.005)
        training, earlier = pills.training(), [pills.night(200) for _ in range(NUM_RUNS)]
        found = exceeded(pills.night(200, foreign=0.1), earlier, training)
        assert ("code_distance", "earlier nights") in found


def test_a_tenth_that_looks_different_makes_the_range_larger_and_one_image_does_not() -> None:
    pills = product(spread=0.005)
    earlier = [pills.night(100) for _ in range(NUM_RUNS)]
    night = pills.night(100)
    look = night["brightness"]
    wider = night | {"brightness": look | {"high": look["high"] + 25}}
    assert exceeded(wider, earlier) == {("brightness_range", "earlier nights")}
    odd = night | {"brightness": look | {"deviation": 3 * look["deviation"]}}
    assert exceeded(odd, earlier) == set()


def test_many_defects_or_rejects_are_seen_beside_other_nights_alone() -> None:
    pills = product()
    earlier = [pills.night(200) for _ in range(NUM_RUNS)]
    night = pills.night(200)
    assert exceeded(night | {"defects": 60}, earlier) == {("defect_share", "earlier nights")}
    assert exceeded(night | {"rejects": 30}, earlier) == {("reject_share", "earlier nights")}
    assert exceeded(night | {"defects": 60}, [], pills.training()) == set()


def test_fewer_rejects_are_no_reason_for_a_warning_and_fewer_defects_are() -> None:
    pills = product(defects=0.3, rejects=0.3)
    earlier = [pills.night(1000) for _ in range(NUM_RUNS)]
    none = {"rejects": 0, "defects": 0}
    assert exceeded(pills.night(1000) | none, earlier) == {("defect_share", "earlier nights")}


def test_nights_that_differ_much_allow_a_larger_difference() -> None:
    calm, uneasy = product(spread=0.002), product(spread=0.03)
    found = [
        exceeded(each.night(300, light=0.93), [each.night(300) for _ in range(NUM_RUNS)])
        for each in (calm, uneasy)
    ]
    assert found[0] >= {("brightness", "earlier nights")}
    assert not found[1]


def drift_of(night: dict[str, Any], earlier: list[dict[str, Any]], **which: str) -> Drift:
    found = compare_category("pill", night, earlier, None, num_categories=1)
    (one,) = (each for each in found.drifts if each.statistic == which["statistic"])
    return one


def test_the_expected_range_is_that_of_the_values_without_a_warning() -> None:
    pills = product()
    earlier = [pills.night(100) for _ in range(NUM_RUNS)]
    night = pills.night(100)
    for statistic, name in (("brightness", "mean"), ("sharpness", "mean")):
        low, high = drift_of(night, earlier, statistic=statistic).expected
        for value, is_unusual in ((low * 0.999, True), (low * 1.001, False), (high * 1.001, True)):
            # The standard error of the mean follows from the deviation, so that changes with it.
            deviation = night[statistic]["deviation"] * value / night[statistic][name]
            look = night[statistic] | {"mean": value, "deviation": deviation}
            changed = night | {statistic: look}
            found = drift_of(changed, earlier, statistic=statistic)
            assert (found.ratio > 1) == is_unusual


def test_what_cannot_be_compared_is_said_with_the_reason() -> None:
    pills = product()
    few = compare_category("pill", pills.night(29), [], None, num_categories=1)
    assert (few.drifts, few.not_compared) == ([], "29 images, fewer than 30")
    earlier = [pills.night(100), pills.night(100), pills.night(10)]
    night = compare_category("pill", pills.night(100), earlier, None, num_categories=1)
    assert night.drifts == []
    assert night.not_compared == "2 earlier nights that are comparable, fewer than 3"


def test_a_night_of_rejects_has_shares_and_no_other_statistic() -> None:
    pills = product()
    night = {"images": 100, "rejects": 100, "defects": 0}
    assert exceeded(night, [pills.night(100) for _ in range(NUM_RUNS)], pills.training()) == {
        ("reject_share", "earlier nights")
    }


def test_a_record_that_is_not_understood_counts_as_no_night() -> None:
    pills = product()
    odd = [{"images": 100, "rejects": 0, "defects": 1, "brightness": 3}, {"images": 100}]
    assert exceeded(pills.night(100, light=0.8), [*odd, pills.night(100)]) == set()
