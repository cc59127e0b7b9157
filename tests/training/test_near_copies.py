"""Copies of images are found, equal or compressed again; photographs of one product are none."""

import cv2
import numpy as np
import pytest

from tests import drawn
from vqad.training.holdout import hold_out
from vqad.training.near_copies import copies


def photographs(category: str, num: int = 20, *, size_px: int = 64) -> np.ndarray:
    return np.stack(
        [
            drawn.draw(category, size_px=size_px, rng=np.random.default_rng([7, number]))
            for number in range(num)
        ]
    )


def compressed(picture: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def shrunk(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("category", drawn.KINDS)
def test_photographs_of_one_product_are_no_copies(category: str) -> None:
    assert copies(photographs(category)) == []


@pytest.mark.parametrize("category", ["washer", "ampoule", "pill"])
def test_equal_and_compressed_pictures_are_copies(category: str) -> None:
    sources = photographs(category, size_px=128)
    pixels = np.stack([shrunk(each) for each in sources])
    pixels[5] = pixels[11] = pixels[2]
    pixels[9] = shrunk(compressed(sources[14]))
    assert copies(pixels) == [[2, 5, 11], [9, 14]]
    assert copies(pixels.astype(np.uint16) * np.uint16(257)) == [[2, 5, 11], [9, 14]]


def test_equal_light_and_pose_are_no_copy_if_the_noise_differs() -> None:
    rng = np.random.default_rng(0)
    scene = rng.uniform(60, 180, (64, 64, 3))
    shots = [np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255) for _ in range(30)]
    assert copies(np.stack(shots).astype(np.uint8)) == []


def test_pictures_that_are_all_equal_are_one_group() -> None:
    assert copies(np.full((6, 16, 16, 3), 90, np.uint8)) == [list(range(6))]


def test_copies_stay_on_one_side_and_count_once() -> None:
    names = [f"{number:03}.png" for number in range(160)]
    group = list(range(40, 56))
    for seed in range(20):
        held_out = set(hold_out(names, seed=seed, copies=[group]))
        assert held_out.isdisjoint(group) or held_out.issuperset(group)
        assert len(held_out - set(group[1:])) == round(0.1 * 145)
    assert any(set(hold_out(names, seed=seed, copies=[group])) & set(group) for seed in range(20))


def test_copies_join_the_groups_that_they_are_in() -> None:
    names = [f"part{number // 4:02}_{number % 4}.png" for number in range(80)]
    for seed in range(10):
        held_out = hold_out(names, seed=seed, group="(part[0-9]+)_", copies=[[1, 79]])
        parts = {names[each][:6] for each in held_out}
        assert ("part00" in parts) == ("part19" in parts)


def test_copies_alone_leave_nothing_to_hold_out() -> None:
    message = r"12 images in 1 group\(s\), copies in one: at least 2 are needed"
    with pytest.raises(ValueError, match=message):
        hold_out([f"{n}.png" for n in range(12)], seed=0, copies=[list(range(12))])
