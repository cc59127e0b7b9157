"""Local statistics are fitted on normal images, each of which is scored by the others."""

import itertools
from functools import partial

import numpy as np
import pytest

from vqad.detection.area_score import fit_rule, judged
from vqad.detection.calibrate import cross_fitted_threshold
from vqad.detection.calibrate import threshold as threshold_by
from vqad.detection.score import score
from vqad.images.decoding import to_unit
from vqad.synthetic import draw
from vqad.training.local_statistics import FittedStatistics, fit_statistics, folds, group_names

SIZE_PX = 32
SIZES = {"size_px": SIZE_PX, "minimum_area_px": 16}
RULE = {"threshold_of": partial(cross_fitted_threshold, quantile=0.95), **SIZES}


def pixels(num: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([draw("washer", size_px=SIZE_PX, rng=rng) for _ in range(num)])


@pytest.fixture(scope="module")
def fitted() -> FittedStatistics:
    return fit_statistics(pixels(30), groups=[str(at) for at in range(30)], seed=0)


def test_folds_are_alike_in_size_and_keep_groups_together() -> None:
    groups = [name for name in "abcdefghij" for _ in range(3)]
    fold_of = folds(groups, np.random.default_rng(0))
    assert {len(set(fold_of[at : at + 3])) for at in range(0, 30, 3)} == {1}
    assert sorted(np.bincount(fold_of).tolist()) == [3] * 8 + [6]


@pytest.mark.parametrize(("num", "length"), [(18, 1), (48, 2), (54, 3), (90, 5), (900, 5)])
def test_neighbours_by_name_stay_together_in_short_runs(num: int, length: int) -> None:
    names = [f"frame {at}.png" for at in range(num)]
    fold_of = folds(names, np.random.default_rng(0))
    runs = [fold_of[at : at + length].tolist() for at in range(0, num, length)]
    assert all(len(set(run)) == 1 for run in runs)
    together = np.mean([one == other for one, other in itertools.pairwise(fold_of.tolist())])
    assert (length - 1) / length - 0.05 < together < (length - 1) / length + 0.2
    assert np.ptp(np.bincount(fold_of)) <= length


def test_one_group_cannot_be_scored_by_others() -> None:
    with pytest.raises(ValueError, match=r"3 images in 1 group\(s\): at least 2 groups"):
        folds(["a"] * 3, np.random.default_rng(0))


def test_the_group_is_the_pattern_s_first_or_the_name() -> None:
    assert group_names(["part1_a", "part1_b", "x"], r"(part\d)_") == ["part1", "part1", "x"]
    assert group_names(["a", "b"], None) == ["a", "b"]


def test_copies_of_each_other_are_of_one_group() -> None:
    names = ["part1_a", "part1_b", "part2_a", "x", "y"]
    groups = group_names(names, r"(part\d)_", copies=[[1, 2], [3, 4]])
    assert groups == ["part1", "part1", "part1", "x", "x"]


def test_images_that_are_all_equal_give_fields_of_numbers() -> None:
    equal = np.repeat(pixels(1), 6, axis=0)
    found = fit_statistics(equal, groups=list("abcdef"), seed=0)
    assert np.isfinite(found.fields).all()
    broken = to_unit(equal[:1])
    broken[:, 10:18, 10:18] = (1, 0, 0)
    assert found.statistics.inspect(broken)[0].max() > np.max(found.fields) + 1


@pytest.mark.parametrize(("smallest", "exposure"), [(0.95, False), (0.1, True)])
def test_brightness_is_made_relative_where_it_differs_much(smallest: float, exposure: bool) -> None:
    grain = np.random.default_rng(0).normal(200, 10, (12, SIZE_PX, SIZE_PX, 1)).clip(0, 255)
    seen = grain * np.linspace(smallest, 1, 12)[:, None, None, None]
    pictures = np.repeat(seen, 3, axis=3).round().astype(np.uint8)
    fitted = fit_statistics(pictures, groups=list("abcdefghijkl"), seed=0)
    assert fitted.statistics.config.features.exposure == exposure


def test_no_image_is_scored_by_statistics_that_saw_it(fitted: FittedStatistics) -> None:
    # The statistics that are kept saw all of them, and find each less unusual than the others do.
    seen = fitted.statistics.inspect(to_unit(pixels(30)))
    assert np.mean([one.mean() for one in seen]) < np.mean([one.mean() for one in fitted.fields])
    assert len(fitted.positions) == len(fitted.fields) == 30


def test_some_images_have_a_copy_in_their_own_fold() -> None:
    some, groups = pixels(8), ["a"] * 4 + ["b"] * 4
    found = fit_statistics(some, groups=groups, seed=0, num_copies=6)
    without = fit_statistics(some, groups=groups, seed=0)
    assert found.positions[:8] == without.positions == list(range(8))
    assert (found.num_images, without.num_images, len(found.fields)) == (8, 8, 14)
    for fold, same in zip(found.folds, without.folds, strict=True):
        assert fold.own[fold.own < 8].tolist() == same.own.tolist()
        of_copies = [found.positions[at] for at in fold.own if at >= 8]
        assert set(of_copies) <= set(same.own.tolist())
    assert found.copies.shape == (6, *some.shape[1:])


def test_copies_raise_the_threshold_and_change_nothing_else(fitted: FittedStatistics) -> None:
    rule, threshold, scores = fit_rule(fitted.fields, **RULE)
    bright = [field + 1 for field in fitted.fields[:10]]
    copies = {
        "copies": [fitted.fields[:5], bright],
        "threshold_of_copies": partial(threshold_by, quantile=0.9, smallest=0.0),
    }
    raised, higher, same = fit_rule(fitted.fields, **RULE, **copies)
    assert (raised.usual, same) == (rule.usual, scores)
    assert higher > threshold
    found, maps = judged(bright, raised, **SIZES)
    assert sum(each > higher for each in found) == 1
    for image_score, anomaly_map in zip(found, maps, strict=True):
        assert score(anomaly_map, minimum_area_px=16) == image_score
    usual = [field - 1 for field in fitted.fields]
    assert fit_rule(fitted.fields, **RULE, copies=[usual])[1] == threshold


def test_one_normal_image_of_twenty_is_above_the_threshold(fitted: FittedStatistics) -> None:
    rule, threshold, scores = fit_rule(fitted.fields, **RULE)
    assert sum(each > threshold for each in scores) == 2
    found, maps = judged(fitted.fields, rule, **SIZES)
    assert found == scores
    for image_score, anomaly_map in zip(found, maps, strict=True):
        assert score(anomaly_map, minimum_area_px=16) == image_score


def test_painted_images_score_above_the_threshold(fitted: FittedStatistics) -> None:
    broken = to_unit(pixels(5, seed=7))
    broken[:, 10:18, 10:18] = (1, 0, 0)
    rule, threshold, _ = fit_rule(fitted.fields, **RULE)
    fields = fitted.statistics.inspect(broken)
    scores, _ = judged(fields, rule, **SIZES)
    assert len(scores) == len(broken)
    assert min(scores) > threshold


def test_the_same_seed_fits_the_same_statistics() -> None:
    groups = [str(at) for at in range(12)]
    one, same = (fit_statistics(pixels(12), groups=groups, seed=3) for _ in range(2))
    assert np.array_equal(one.fields, same.fields)
