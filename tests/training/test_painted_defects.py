"""Painted defects: visible where they are labelled, of every kind, and the same by seed."""

import numpy as np
import pytest

from vqad.training.painted_defects import SHAPES, object_of, paint
from vqad.training.painted_fillings import FILLINGS, LINE_FILLINGS, Covered


def picture(size_px: int = 64, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.2, 0.8, size_px, dtype=np.float32)
    grain = rng.normal(0, 0.05, (size_px, size_px, 3)).astype(np.float32)
    return (ramp[:, None, None] + grain).clip(0, 1)


@pytest.mark.parametrize("size_px", [16, 64, 256])
def test_defects_of_any_size_of_picture_stay_in_range_and_change_what_is_labelled(
    size_px: int,
) -> None:
    clean, other, rng = picture(size_px), picture(size_px, seed=1), np.random.default_rng(2)
    seen = []
    for _ in range(40):
        painted, share = paint(clean, other, rng, grey=False)
        assert painted.dtype == share.dtype == np.float32
        assert painted.shape == clean.shape
        assert share.shape == clean.shape[:2]
        assert 0 <= painted.min() <= painted.max() <= 1
        assert 0 <= share.min() <= share.max() <= 1
        changed = np.abs(painted - clean).max()
        assert share.max() == 0 or changed > 0.01
        seen.append(share.max() > 0.5)
    assert np.mean(seen) > 0.5


def test_the_picture_that_is_painted_on_is_left_as_it_was() -> None:
    clean, other = picture(), picture(seed=1)
    before = clean.copy(), other.copy()
    for seed in range(10):
        paint(clean, other, np.random.default_rng(seed), grey=False)
    np.testing.assert_array_equal(clean, before[0])
    np.testing.assert_array_equal(other, before[1])


def test_the_seed_decides() -> None:
    clean, other = picture(), picture(seed=1)
    one, same, different = (
        paint(clean, other, np.random.default_rng(seed), grey=False)[0] for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, different)


def test_a_grey_product_has_grey_defects() -> None:
    clean, other = (picture(seed=seed)[..., :1].repeat(3, 2) for seed in (0, 1))
    rng = np.random.default_rng(0)
    for _ in range(40):
        painted, _ = paint(clean, other, rng, grey=True)
        assert np.ptp(painted, axis=2).max() < 1e-5


@pytest.mark.parametrize("filling", [each for each, _ in (*FILLINGS, *LINE_FILLINGS)])
@pytest.mark.parametrize("shape", [(2, 3), (40, 9), (64, 64)])
def test_every_filling_replaces_any_part(filling, shape: tuple[int, int]) -> None:
    whole = picture()
    part = whole[: shape[0], : shape[1]]
    share = np.ones(shape, np.float32)
    for seed in range(8):
        covered = Covered(part=part, share=share, source=whole, corner=(0, 0), grey=False)
        found = filling(covered, np.random.default_rng(seed))
        assert found.shape == part.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


@pytest.mark.parametrize("shape", [each for each, _ in SHAPES])
def test_every_shape_covers_a_part_of_the_picture(shape) -> None:
    rng = np.random.default_rng(0)
    shares = [shape(64, np.array([32.0, 30.0]), rng) for _ in range(20)]
    assert all(each.shape == (64, 64) and each.dtype == np.float32 for each in shares)
    assert np.median([each.mean() for each in shares]) < 0.5
    assert np.mean([each.max() > 0 for each in shares]) > 0.8


def test_an_object_on_an_even_ground_is_found_and_a_texture_has_none() -> None:
    ground = np.full((64, 64, 3), 0.1, np.float32)
    ground[20:40, 24:44] = 0.7
    found = object_of(ground)
    assert found is not None
    rows, cols = np.nonzero(found)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 39, 24, 43)
    assert object_of(picture()) is None
    assert object_of(np.full((64, 64, 3), 0.1, np.float32)) is None


def test_most_defects_lie_on_the_object() -> None:
    ground = np.full((64, 64, 3), 0.1, np.float32)
    ground[8:24, 8:24] = 0.7
    rng = np.random.default_rng(0)
    shares = [paint(ground, ground, rng, grey=False)[1] for _ in range(60)]
    on, away = (
        np.mean([each[box].mean() for each in shares])
        for box in (np.s_[8:24, 8:24], np.s_[40:56, 40:56])
    )
    assert on > 3 * away
