"""Local statistics are fitted on normal images, each of which is scored by the others."""

import numpy as np
import pytest

from vqad.detection.area_score import area_score
from vqad.synthetic import draw
from vqad.training.local_statistics import FittedStatistics, fit_statistics, folds, group_names

SIZE_PX = 32


def pictures(num: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [draw("washer", size_px=SIZE_PX, rng=rng).astype(np.float32) / 255 for _ in range(num)]


@pytest.fixture(scope="module")
def fitted() -> FittedStatistics:
    return fit_statistics(pictures(30), groups=[str(at) for at in range(30)], seed=0)


def test_folds_are_alike_in_size_and_keep_groups_together() -> None:
    groups = [name for name in "abcdefghij" for _ in range(3)]
    fold_of = folds(groups, np.random.default_rng(0))
    assert {len(set(fold_of[at : at + 3])) for at in range(0, 30, 3)} == {1}
    assert sorted(np.bincount(fold_of).tolist()) == [9, 9, 12]


def test_one_group_cannot_be_scored_by_others() -> None:
    with pytest.raises(ValueError, match=r"3 images in 1 group\(s\): at least 2 groups"):
        folds(["a"] * 3, np.random.default_rng(0))


def test_the_group_is_the_pattern_s_first_or_the_name() -> None:
    assert group_names(["part1_a", "part1_b", "x"], r"(part\d)_") == ["part1", "part1", "x"]
    assert group_names(["a", "b"], None) == ["a", "b"]


def test_no_image_is_scored_by_statistics_that_saw_it(fitted: FittedStatistics) -> None:
    # The statistics that are kept saw all of them, and find each less unusual than the others do.
    seen = fitted.statistics.inspect(np.stack(pictures(30)))
    assert np.mean([one.mean() for one in seen]) < np.mean([one.mean() for one in fitted.fields])
    assert len(fitted.scores) == len(fitted.fields) == 30
    assert fitted.scores == [area_score(field, fitted.usual) for field in fitted.fields]


def test_one_normal_image_of_twenty_is_above_the_threshold(fitted: FittedStatistics) -> None:
    assert sum(each > fitted.threshold for each in fitted.scores) == 2


def test_painted_images_score_above_the_threshold(fitted: FittedStatistics) -> None:
    broken = np.stack(pictures(5, seed=7))
    broken[:, 10:18, 10:18] = (1, 0, 0)
    fields = fitted.statistics.inspect(broken)
    assert all(area_score(field, fitted.usual) > fitted.threshold for field in fields)


def test_the_same_seed_fits_the_same_statistics() -> None:
    groups = [str(at) for at in range(12)]
    one, same = (fit_statistics(pictures(12), groups=groups, seed=3) for _ in range(2))
    assert one.scores == same.scores
    assert one.threshold == same.threshold
