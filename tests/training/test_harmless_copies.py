"""Harmless copies have another light or place, and nothing else."""

import numpy as np
import pytest

from vqad.training.harmless_copies import (
    IN_ONE_POSE,
    change_of,
    harmless_copies,
    in_other_light,
    shifted,
    with_another_corner,
)


def grey(level: int = 100) -> np.ndarray:
    return np.full((64, 64, 3), level, np.uint8)


def copies(change, picture: np.ndarray, num: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([change(picture, rng) for _ in range(num)])


def test_light_changes_by_a_tenth_everywhere() -> None:
    found = copies(in_other_light, grey())
    assert np.ptp(found, axis=(1, 2, 3)).max() == 0
    assert set(found.ravel()) == {90, 110}


def test_the_light_of_one_corner_changes_by_a_fifth() -> None:
    found = copies(with_another_corner, grey())
    assert (found[:, 24:40, 24:40] == 100).all()
    corners = found[:, [0, 0, 63, 63], [0, 63, 0, 63], 0].astype(int)
    assert set((corners != 100).sum(1)) == {1}
    assert (corners != 100).any(0).all()
    assert 80 <= corners.min() < 83
    assert 117 < corners.max() <= 120


@pytest.mark.parametrize(("side", "step"), [(64, 1), (256, 3)])
def test_a_copy_is_shifted_by_whole_pixels_by_three_of_256(side: int, step: int) -> None:
    picture = np.zeros((side, side, 3), np.uint8)
    picture[side // 2, side // 2] = 200
    seen: set[tuple[int, int]] = set()
    for each in copies(shifted, picture):
        (place,) = np.argwhere(each[..., 0])
        seen.add(tuple((place - side // 2).tolist()))
    assert seen == {(y, x) for y in (-step, 0, step) for x in (-step, 0, step)} - {(0, 0)}


def test_16_bit_pictures_keep_their_type_and_range() -> None:
    white = np.full((30, 64, 64, 3), 65535, np.uint16)
    found = harmless_copies(white, np.random.default_rng(0))
    assert found.dtype == np.uint16
    assert found.max() == 65535
    assert found.min() < 60000


@pytest.mark.parametrize("change", IN_ONE_POSE)
def test_no_copy_in_one_pose_is_brighter_than_the_camera_can_show(change) -> None:
    assert copies(change, grey(240)).max() <= 240  # darker in place of it
    spotted = grey(100)
    spotted[:2] = 255  # as bright as can be before, and so it stays
    assert (copies(change, spotted) > 100).any((1, 2, 3)).all()
    assert (copies(change, spotted)[:, 40:] > 100).any()


def test_copies_of_aligned_images_are_not_moved() -> None:
    rng = np.random.default_rng(0)
    pictures = np.random.default_rng(1).integers(50, 200, (6, 64, 64, 3)).astype(np.uint8)
    for at, copy in enumerate(harmless_copies(pictures, rng, moved=False)):
        # Light alone was changed, so each pixel is about its own one.
        assert np.abs(copy / pictures[at] - 1).max() < 0.22
        assert change_of(at, moved=False) == at % 2


def test_the_changes_take_turns() -> None:
    found = harmless_copies(np.stack([grey()] * 6), np.random.default_rng(0))
    assert [int(np.ptp(each)) > 0 for each in found] == [False, True, False] * 2
    assert harmless_copies(found[:0], np.random.default_rng(0)).shape == (0, 64, 64, 3)
