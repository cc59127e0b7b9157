"""The distance between histograms of codes, and how large it is by chance."""

import numpy as np
import pytest

from vqad.detection.normal_statistics import (
    ExpectedDistance,
    NormalStatistics,
    Spread,
    half_distance,
    jensen_shannon,
)

NUM_CODES, CELLS = 64, 256


def histograms(num: int, seed: int) -> np.ndarray:
    """Codes of images that differ more than chance alone would have it, as images do."""
    rng = np.random.default_rng(seed)
    usual = np.geomspace(1, 0.001, NUM_CODES)
    shares = rng.dirichlet(200 * usual / usual.sum(), num)
    return np.stack([rng.multinomial(CELLS, each) for each in shares])


def normal(held_out: np.ndarray) -> NormalStatistics:
    return NormalStatistics(
        num_images=len(held_out),
        **{
            name: Spread(mean=1.0, deviation=0.0)
            for name in ("brightness", "contrast", "sharpness")
        },
        num_held_out=len(held_out),
        code_counts=held_out.sum(0).tolist(),
        half_distance=half_distance(held_out, seed=0),
    )


def deviation(expected: ExpectedDistance) -> float:
    return float(np.hypot(expected.error_of_images, expected.error_of_held_out))


def test_the_distance_of_histograms_has_its_known_values() -> None:
    one = np.array([3, 1, 0])
    assert jensen_shannon(one, 7 * one) == 0
    assert jensen_shannon(one, np.array([0, 0, 5])) == 1
    assert jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(0.5579, abs=1e-4)
    assert jensen_shannon(one, one[::-1]) == jensen_shannon(one[::-1], one)
    assert jensen_shannon(np.array([0, 0, 0]), one) >= 0  # of no image


@pytest.mark.parametrize("num_images", [10, 40, 300])
def test_other_images_of_the_same_product_are_as_far_away_as_expected(num_images: int) -> None:
    """On average over trainings and nights: of one training, chance has its say."""
    excess = []
    for seed in range(60):
        reference = normal(histograms(24, seed))
        found = reference.distance(histograms(num_images, 1000 + seed).sum(0))
        usual = reference.expected_distance(num_images)
        assert usual is not None
        excess.append((found - usual.mean) / deviation(usual))
    assert abs(np.mean(excess)) < 1
    assert np.mean(np.abs(excess) > 4) < 0.05


def test_more_images_have_a_smaller_expected_distance_down_to_that_of_the_held_out() -> None:
    reference = normal(histograms(24, 0))
    means = [
        getattr(reference.expected_distance(num), "mean", None) for num in (5, 50, 5000, 10**9)
    ]
    assert means == sorted(means, reverse=True)
    assert means[2] == pytest.approx(means[3], rel=0.01)


def test_another_product_is_far_away() -> None:
    reference = normal(histograms(24, 0))
    mixed = np.concatenate([histograms(36, 1), histograms(4, 2)[:, ::-1]]).sum(0)
    usual = reference.expected_distance(40)
    assert usual is not None
    assert reference.distance(mixed) > usual.mean + 5 * deviation(usual)


def test_too_few_images_to_split_expect_nothing() -> None:
    assert half_distance(histograms(3, 0), seed=0) is None
    assert normal(histograms(3, 0)).expected_distance(40) is None
