"""The p-value of a score among those of normal images: its formula, and what it promises."""

import numpy as np
import pytest

from tests.support.random_detectors import detector_of, pictures
from vqad.detection.fit_record import FitRecord
from vqad.detection.p_value import p_value


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, 1.0), (1.0, 1.0), (1.5, 4 / 5), (3.0, 3 / 5), (3.1, 1 / 5)]
)
def test_it_counts_normal_scores_at_or_above_the_image_s(score: float, expected: float) -> None:
    assert p_value(score, [3.0, 1.0, 2.0, 3.0]) == pytest.approx(expected)


def test_without_scores_of_normal_images_there_is_none() -> None:
    assert p_value(1.0, []) is None


def test_a_score_as_the_table_has_it_gives_the_same() -> None:
    score = 0.1
    assert p_value(score, [score]) == p_value(float(np.float32(score)), [score]) == 1


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_normal_images_are_rarely_found_rarer_than_they_are(share: float) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.gamma(2, size=(4000, 40))
    found = np.array([p_value(one, normal) for one, *normal in drawn])
    # Exactly 2, 10 or 20 of 40 ranks; three standard errors of 4,000 draws are at most .024.
    assert (found <= share).mean() == pytest.approx(share, abs=0.024)


def test_an_inspection_has_the_p_value_of_each_image_in_any_batch() -> None:
    scores = sorted(detector_of().inspect(pictures()).scores)
    detector = detector_of(found=FitRecord(held_out_scores=scores[:4]))
    found = detector.inspect(pictures())
    assert found.p_values == [p_value(each, scores[:4]) for each in found.scores]
    assert min(found.p_values) == 1 / 5
    one_by_one = [detector.inspect(each[None]).p_values[0] for each in pictures()]
    assert found.p_values == one_by_one
    assert detector_of().inspect(pictures()).p_values == [None] * len(pictures())


def test_cross_fitted_scores_count_in_the_form_that_they_are_of() -> None:
    record = FitRecord(held_out_scores=[1.0], cross_fitted_scores=[11.0, 12.0])
    # As a full detector leaves them when it is recalibrated to the plain form.
    assert detector_of(found=record).settings.normal_scores == [1.0]
