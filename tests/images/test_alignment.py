"""A product that lies in any direction is turned into the pose of a template, and back."""

from functools import cache

import cv2
import numpy as np
import pytest
import torch

from tests import drawn
from vqad.images.alignment import Alignment
from vqad.images.placement import Geometry, ImageForm
from vqad.images.pose import Pose
from vqad.images.tensors import filled
from vqad.training.alignment import found_in

SIDE_PX = 128


@cache
def screws(num: int = 30) -> np.ndarray:
    rngs = (np.random.default_rng([1, number]) for number in range(num))
    return np.stack([drawn.draw("screw", size_px=SIDE_PX, rng=rng) for rng in rngs])


@cache
def alignment() -> Alignment:
    return found_in([f"{number:02}" for number in range(len(screws()))], screws()).templates


def unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / np.float32(255)


def moved(degrees: float, right: int) -> np.ndarray:
    """The matrix that turns a picture around its middle and moves it to the right."""
    middle = (SIDE_PX - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D((middle, middle), degrees, 1), [0, 0, 1]])
    matrix[0, 2] += right
    return matrix


@pytest.mark.parametrize(("degrees", "right"), [(77, 0), (183.5, 4), (-31, -6)])
def test_a_product_is_aligned_alike_in_whatever_pose_it_lies(degrees: float, right: int) -> None:
    matrix = moved(degrees, right)
    for screw in screws()[:6]:
        size = (SIDE_PX, SIDE_PX)
        turned = cv2.warpAffine(screw, matrix[:2], size, borderMode=cv2.BORDER_REPLICATE)
        one, other = (alignment().pose(unit(each)).matrix for each in (screw, turned))
        # Corners of the middle half of the aligned picture are at the same places of the product.
        corners = np.array([[32, 96, 32, 96], [32, 32, 96, 96], [1, 1, 1, 1]])
        away = (matrix @ one @ corners - other @ corners)[:2]
        assert np.hypot(*away).max() < 1  # pixel


def test_what_is_found_in_the_aligned_picture_is_turned_back_to_where_it_was() -> None:
    for picture in screws()[:5]:
        pose = alignment().pose(unit(picture))
        marked = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        marked[40:48, 70:78] = 1
        there = pose.aligned(np.dstack([marked] * 3))[..., 0]
        back = pose.turned_back(there)
        assert np.abs(back - marked).max() < 0.8  # edges are interpolated twice
        assert (back * marked).sum() > 0.8 * marked.sum()


def test_an_aligned_picture_has_8_bit_steps() -> None:
    picture = unit(screws()[1])
    found = alignment().pose(picture).aligned(picture)
    assert found.dtype == np.float32
    levels = np.round(found * 255).astype(np.uint8)
    assert np.array_equal(found, unit(levels))


def test_an_empty_picture_has_a_pose_as_well() -> None:
    empty = np.full((SIDE_PX, SIDE_PX, 3), 0.5, np.float32)
    pose = alignment().pose(empty)
    assert np.isfinite(pose.matrix).all()
    assert pose.aligned(empty) == pytest.approx(empty, abs=1 / 255)


def test_only_images_with_a_pose_are_turned() -> None:
    placement = Geometry(form=ImageForm(size_px=8)).placement()
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 7.0], [0.0, 0.0, 1.0]])
    posed = type(placement)(
        size_px=8, shape=placement.shape, inside=None, pose=Pose(matrix=quarter)
    )
    images = (torch.arange(2 * 3 * 8 * 8) % 256).view(2, 3, 8, 8) / 255
    found = filled(images, [placement, posed])
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[1], images[1].rot90(-1, (1, 2)))
    assert np.array_equal(posed.map_of(found[1, 0].numpy()), images[1, 0].numpy())
