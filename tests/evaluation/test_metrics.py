"""Each metric against a slow, literal reading of its definition."""

import tracemalloc
from dataclasses import asdict, astuple, fields, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy import ndarray
from skimage.measure import label

from vqad.evaluation.metrics import Metrics, auroc, evaluate, f1, f1max, image_accuracy, mean, worst

LEVELS = np.array([0, 0, 0, 0.5, 1, 2, 2.5, 40], np.float32)
UNDEFINED = Metrics(**dict.fromkeys((f.name for f in fields(Metrics)), None))
THRESHOLDS = (-1.0, 0.0, 1.0, 2.2, 99.0)


class Case:
    """A small test set of values from a handful of levels and masks of rectangles."""

    def __init__(self, seed: int, *, num_defects: int = 3, num_normal: int = 2) -> None:
        rng = np.random.default_rng(seed)
        n = num_defects + num_normal
        self.is_defect = rng.permutation(np.arange(n) < num_defects)
        self.maps = rng.choice(LEVELS, (n, 6, 7))
        self.scores = rng.choice(LEVELS, n).astype(float)
        self.masks = np.zeros(self.maps.shape, bool)
        for index in np.flatnonzero(self.is_defect):
            for _ in range(rng.integers(0, 4)):
                top, left = rng.integers(0, 6, 2)
                height, width = rng.integers(1, 4, 2)
                self.masks[index, top : top + height, left : left + width] = True

    def evaluate(self, threshold: float) -> Metrics:
        return evaluate(self.scores, self.is_defect, self.maps, self.masks, threshold=threshold)

    def components(self) -> list[ndarray]:
        """Every component of the ground truth, as a mask of the whole test set."""
        found = []
        for index, mask in enumerate(self.masks):
            labels = label(mask, connectivity=2)
            for number in range(1, labels.max() + 1):
                component = np.zeros_like(self.masks)
                component[index] = labels == number
                found.append(component)
        return found


def share(part: ndarray, whole: ndarray) -> Fraction:
    """How much of the whole lies in the part."""
    return Fraction(int((part & whole).sum()), int(whole.sum()))


def literal_auroc(truth: ndarray, values: ndarray) -> Fraction | None:
    """Count all pairs of a positive and a negative."""
    pairs = [(p, n) for p in values[truth] for n in values[~truth]]
    won = sum(Fraction(int(p > n)) + Fraction(int(p == n), 2) for p, n in pairs)
    return won / len(pairs) if pairs else None


def literal_f1(truth: ndarray, called: ndarray) -> float | None:
    """Compute eq. 8 to 10, where they are defined."""
    if not truth.any():
        return None
    true_positive = (truth & called).sum()
    if not true_positive:
        return 0.0
    recall = true_positive / (true_positive + (truth & ~called).sum())
    precision = true_positive / (true_positive + (~truth & called).sum())
    return 2 * precision * recall / (precision + recall)


def literal_f1max(truth: ndarray, values: ndarray) -> float | None:
    if not truth.any():
        return None
    return max(literal_f1(truth, values >= level) for level in np.unique(values))


def literal_pro(case: Case, predicted: ndarray) -> Fraction | None:
    shares = [share(predicted, component) for component in case.components()]
    return sum(shares, Fraction(0)) / len(shares) if shares else None


def literal_au_pro(case: Case) -> float | None:
    """Add the trapezoids of the whole curve, the last one cut at the limit, exactly."""
    if not case.masks.any() or case.masks.all():
        return None
    limit, area = Fraction(3, 10), Fraction(0)
    points = [(Fraction(0), Fraction(0))]
    for level in np.unique(case.maps)[::-1]:
        predicted = case.maps >= level
        points.append((share(predicted, ~case.masks), literal_pro(case, predicted)))
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit < x1:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (y0 + y1) / 2 * (min(limit, x1) - min(limit, x0))
    return float(area / limit)


def literal(case: Case, threshold: float) -> dict[str, float | Fraction | None]:
    called = case.scores > threshold
    accuracy = None
    if case.is_defect.any() and not case.is_defect.all():
        right = share(called, case.is_defect) + share(~called, ~case.is_defect)
        accuracy = right / 2
    return {
        "image_accuracy": accuracy,
        "image_auroc": literal_auroc(case.is_defect, case.scores),
        "pixel_auroc": literal_auroc(case.masks, case.maps),
        "pro": literal_pro(case, case.maps > threshold),
        "au_pro": literal_au_pro(case),
        "image_f1": literal_f1(case.is_defect, called),
        "pixel_f1": literal_f1(case.masks, case.maps > threshold),
        "image_f1max": literal_f1max(case.is_defect, case.scores),
        "pixel_f1max": literal_f1max(case.masks, case.maps),
        "false_alarm_rate": None if case.is_defect.all() else share(called, ~case.is_defect),
        "recall": share(called, case.is_defect) if case.is_defect.any() else None,
    }


@settings(max_examples=60, deadline=None)
@example(seed=0, num_defects=0, num_normal=3, threshold=1.0)
@example(seed=0, num_defects=3, num_normal=0, threshold=1.0)
@given(
    seed=st.integers(0, 10**6),
    num_defects=st.integers(0, 4),
    num_normal=st.integers(1, 3),
    threshold=st.sampled_from(THRESHOLDS),
)
def test_every_metric_is_what_its_definition_says(
    seed: int, num_defects: int, num_normal: int, threshold: float
) -> None:
    case = Case(seed, num_defects=num_defects, num_normal=num_normal)
    found, expected = asdict(case.evaluate(threshold)), literal(case, threshold)
    assert found == pytest.approx({k: v if v is None else float(v) for k, v in expected.items()})


def test_components_that_touch_at_a_corner_are_one_and_in_two_images_two() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2, :2] = masks[0, 2, 2] = True  # five pixels
    masks[1, 0, 0] = True  # one
    maps = np.zeros(masks.shape, np.float32)
    maps[0, 2, 2] = maps[1, 0, 0] = 9
    metrics = evaluate(np.ones(2), np.ones(2, bool), maps, masks, threshold=1.0)
    assert metrics.pro == pytest.approx((1 / 5 + 1) / 2)


def test_au_pro_is_cut_between_two_points_of_the_curve() -> None:
    # One level finds half the defect and none of the ten negatives, the next everything.
    masks = np.zeros((1, 3, 4), bool)
    masks[0, 0, :2] = True
    maps = np.ones(masks.shape, np.float32)
    maps[0, 0, 0] = 2
    metrics = evaluate(np.ones(1), np.ones(1, bool), maps, masks, threshold=1.0)
    # From 0.5 at a rate of 0 straight to 1 at a rate of 1: 0.65 at the limit.
    assert metrics.au_pro == pytest.approx((0.5 + 0.65) / 2)


def test_a_map_of_zeros_is_as_good_as_chance_and_not_perfect() -> None:
    case = Case(1)
    case.maps[:] = 0
    metrics = case.evaluate(0.0)
    assert metrics.pixel_auroc == pytest.approx(0.5)
    assert metrics.au_pro == pytest.approx(0.15)  # the diagonal up to 0.3
    assert (metrics.pro, metrics.pixel_f1) == (0, 0)


def test_a_perfect_detector_has_one_everywhere_and_no_false_alarm() -> None:
    case = Case(2)
    case.maps = case.masks.astype(np.float32) * 30
    case.scores = case.is_defect.astype(float) * 30
    assert astuple(case.evaluate(10.0)) == pytest.approx((*((1,) * 9), 0, 1))


def test_curves_know_only_the_order_of_values() -> None:
    case = Case(3)
    before = case.evaluate(1.0)
    case.maps, case.scores = np.sqrt(case.maps) * 5 + 1, case.scores**3 - 7
    curves = ("image_auroc", "pixel_auroc", "au_pro", "image_f1max", "pixel_f1max")
    after = case.evaluate(1.0)
    assert [getattr(after, c) for c in curves] == [getattr(before, c) for c in curves]


def test_f1max_is_no_less_than_f1_at_any_threshold() -> None:
    case = Case(4)
    for threshold in THRESHOLDS:
        metrics = case.evaluate(threshold)
        assert metrics.pixel_f1 <= metrics.pixel_f1max + 1e-12
        assert metrics.image_f1 <= metrics.image_f1max + 1e-12


def test_image_accuracy_is_the_mean_of_recall_and_of_good_images_without_an_alarm() -> None:
    for threshold in THRESHOLDS:
        found = Case(8).evaluate(threshold)
        balanced = (found.recall + 1 - found.false_alarm_rate) / 2
        assert found.image_accuracy == pytest.approx(balanced)


def test_the_worst_of_several_is_the_smallest_of_each_but_of_false_alarms() -> None:
    found = [Case(seed).evaluate(1.0) for seed in (9, 10)]
    found += [replace(UNDEFINED, false_alarm_rate=0.9)]
    of_all = worst(found)
    for name in asdict(of_all):
        values = [v for v in (getattr(each, name) for each in found) if v is not None]
        assert getattr(of_all, name) == (max if name == "false_alarm_rate" else min)(values)
    assert worst([UNDEFINED]) == UNDEFINED


def test_image_accuracy_weighs_both_kinds_alike() -> None:
    is_defect = np.array([True] * 8 + [False] * 2)
    called = np.array([True] * 8 + [True, False])
    assert image_accuracy(is_defect, called) == pytest.approx(0.75)


def test_the_same_answers_come_one_by_one() -> None:
    case = Case(5)
    metrics = case.evaluate(1.0)
    assert auroc(case.masks.ravel(), case.maps.ravel()) == pytest.approx(metrics.pixel_auroc)
    assert f1max(case.is_defect, case.scores) == metrics.image_f1max
    assert f1(case.is_defect, case.scores > 1) == metrics.image_f1


def test_without_defects_the_share_of_false_alarms_is_all_there_is() -> None:
    case = Case(6, num_defects=0)
    case.scores = np.linspace(0, 3, len(case.scores))
    found = case.evaluate(1.0)
    assert found.false_alarm_rate == np.mean(case.scores > 1)
    assert replace(found, false_alarm_rate=None) == UNDEFINED


def test_without_masks_the_image_metrics_remain() -> None:
    case = Case(7)
    case.masks[:] = False
    metrics = case.evaluate(1.0)
    assert (metrics.pixel_auroc, metrics.pro, metrics.au_pro) == (None, None, None)
    assert (metrics.pixel_f1, metrics.pixel_f1max) == (None, None)
    assert None not in (metrics.image_accuracy, metrics.image_auroc, metrics.image_f1)


def test_a_large_test_set_costs_little_more_memory_than_its_maps() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((300, 128, 128), np.float32)  # hardly two values alike
    masks = np.zeros(maps.shape, bool)
    masks[::2, :13, :13] = True  # half a percent of all pixels
    is_defect = masks.any((1, 2))
    tracemalloc.start()
    evaluate(maps.max((1, 2)).astype(float), is_defect, maps, masks, threshold=0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The maps themselves were there before; sorting all of them at once takes several times more.
    assert peak < 2 * maps.nbytes


def test_evaluating_leaves_its_inputs_alone() -> None:
    case, same = Case(8), Case(8)
    case.evaluate(1.0)
    assert np.array_equal(case.maps, same.maps)
    assert np.array_equal(case.masks, same.masks)


def test_the_mean_passes_over_what_is_undefined() -> None:
    high = Metrics(**dict.fromkeys((f.name for f in fields(Metrics)), 1.0))
    low = replace(UNDEFINED, pro=0.5, image_f1=0.0)
    assert mean([high, low, UNDEFINED]) == replace(high, pro=0.75, image_f1=0.5)
    assert mean([]) == UNDEFINED


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_index(value: float) -> None:
    case = Case(9)
    case.maps[3, 1, 1] = value
    with pytest.raises(ValueError, match="the map of image 3 holds values that are not finite"):
        case.evaluate(1.0)
    case.scores[2] = value
    with pytest.raises(ValueError, match=f"the score of image 2 is {value}"):
        case.evaluate(1.0)
    with pytest.raises(ValueError, match=f"threshold must be a finite number, got {value}"):
        case.evaluate(value)


def test_a_normal_image_with_a_mask_is_refused_by_index() -> None:
    case = Case(10)
    index = int(np.flatnonzero(~case.is_defect)[0])
    case.masks[index, 0, :2] = True
    said = f"image {index} is labelled normal, but its mask has 2 defective pixels"
    with pytest.raises(ValueError, match=said):
        case.evaluate(1.0)
