"""Masks are read by one rule, whatever their format, and no thin defect leaves the truth."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.labelled_data import (
    SHAPE,
    SOURCE_SHAPE,
    mask_pixels,
    write_masks,
    write_picture,
    write_tests,
)
from vqad.evaluation.canvas import Canvas, canvas_of
from vqad.evaluation.ground_truth import read_truth, resized
from vqad.evaluation.labelled_images import labelled_images
from vqad.images.mask_files import read_mask


def at_shape(shape: tuple[int, int], images: list[str]) -> Canvas:
    return canvas_of([shape] * len(images), [(40, 30)] * len(images), None)


def palette_png() -> bytes:
    picture = Image.fromarray(mask_pixels(value=1), "P")
    picture.putpalette([0, 0, 0, 200, 30, 30])
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return sink.getvalue()


def bilevel_png() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(mask_pixels()).convert("1").save(sink, "PNG")
    return sink.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def with_alpha(colour: np.ndarray, alpha: np.ndarray) -> bytes:
    return png(np.dstack([colour, colour, colour, alpha]))


BLACK = np.zeros(SOURCE_SHAPE, np.uint8)
WHITE = np.full(SOURCE_SHAPE, 255, np.uint8)
MASKS = {
    "0 and 255": png(mask_pixels()),
    "0 and 1": png(mask_pixels(value=1)),
    "bilevel": bilevel_png(),
    "palette": palette_png(),
    "red": png(np.dstack([BLACK, BLACK, mask_pixels(value=200)])),
    "16 bits": png(mask_pixels(value=1, dtype=np.uint16)),
    "white on transparent": with_alpha(WHITE, mask_pixels()),
    "black on transparent": with_alpha(BLACK, mask_pixels()),
    "white on opaque black": with_alpha(mask_pixels(), WHITE),
    "JPEG with noise": cv2.imencode(".jpg", mask_pixels(), [cv2.IMWRITE_JPEG_QUALITY, 60])[1],
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_kind_are_read_alike(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mask"
    path.write_bytes(bytes(MASKS[name]))
    np.testing.assert_array_equal(read_mask(str(path)), mask_pixels() > 0)


@pytest.mark.parametrize("data", [png(BLACK), with_alpha(BLACK, WHITE), with_alpha(WHITE, BLACK)])
def test_a_mask_without_a_defective_pixel_is_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(data)
    assert not read_mask(str(tmp_path / "mask.png")).any()


@pytest.mark.parametrize("data", [b"", b"text", png(BLACK)[:40]])
def test_a_mask_that_is_no_picture_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"mask .*/mask.png is not a readable picture"):
        read_mask(str(tmp_path / "mask.png"))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_line_of_one_pixel_stays_whole_in_a_small_map(axis: int) -> None:
    for at in (0, 333, 777, 959):
        mask = np.zeros((960, 1280), bool)
        np.moveaxis(mask, axis, 0)[at] = True
        small = resized(mask, (64, 64))
        assert np.moveaxis(small, axis, 0)[at * 64 // mask.shape[axis]].all()


def slowly_resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The definition: a pixel is true if its area overlaps one of the mask's."""
    small = np.zeros(shape, bool)
    for row, col in np.argwhere(mask):
        for i, j in np.ndindex(shape):
            overlaps = (
                i * mask.shape[0] < (row + 1) * shape[0]
                and row * shape[0] < (i + 1) * mask.shape[0]
                and j * mask.shape[1] < (col + 1) * shape[1]
                and col * shape[1] < (j + 1) * mask.shape[1]
            )
            small[i, j] |= overlaps
    return small


def test_a_pixel_is_defective_if_any_part_of_it_is_covered() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width, *shape = (int(size) for size in rng.integers(1, 12, 4))
        mask = rng.random((height, width)) < 0.2
        expected = slowly_resized(mask, (shape[0], shape[1]))
        np.testing.assert_array_equal(resized(mask, (shape[0], shape[1])), expected)


def test_masks_come_at_the_shape_of_the_maps_and_good_images_have_none(tmp_path: Path) -> None:
    images = write_tests(tmp_path)
    write_masks(tmp_path, ["crack/0_mask.png", "crack/1_mask.png"])
    truth = read_truth(labelled_images(str(tmp_path), "part"), images, at_shape(SHAPE, images))
    assert truth.defect_types == ["crack", "crack", "good"]
    assert truth.masks.sum((1, 2)).tolist() == [4, 4, 0]
    assert truth.masks[0, 2:4, 2:4].all()
    assert truth.empty == []
    assert truth.source_share == pytest.approx(2 / 3 * 16 / (24 * 20))


def test_a_defective_image_with_an_empty_mask_is_reported(tmp_path: Path) -> None:
    images = write_tests(tmp_path)
    write_masks(tmp_path, ["crack/0_mask.png"])
    write_picture(tmp_path / "part" / "ground_truth" / "crack" / "1_mask.png", BLACK)
    truth = read_truth(labelled_images(str(tmp_path), "part"), images, at_shape(SHAPE, images))
    assert truth.empty == [images[1]]


def test_several_masks_of_one_image_are_joined(tmp_path: Path) -> None:
    images = write_tests(tmp_path, ["crack/0.png"])
    folder = tmp_path / "part" / "ground_truth" / "crack" / "0"
    write_picture(folder / "000.png", mask_pixels())
    write_picture(folder / "001.png", mask_pixels()[::-1])
    truth = read_truth(
        labelled_images(str(tmp_path), "part"), images, at_shape(SOURCE_SHAPE, images)
    )
    np.testing.assert_array_equal(truth.masks[0], (mask_pixels() | mask_pixels()[::-1]) > 0)


def test_without_a_folder_of_masks_there_are_labels_alone(tmp_path: Path) -> None:
    images = write_tests(tmp_path)
    truth = read_truth(labelled_images(str(tmp_path), "part"), images, at_shape(SHAPE, images))
    assert truth.masks is None
    assert truth.is_defect.tolist() == [True, True, False]
