"""Tiles to learn from: few of each image, the same ones wherever the file lies."""

import cv2
import numpy as np
import pytest

from vqad.images.headers import ImageError
from vqad.images.tiles import Tiling
from vqad.training.learned_tiles import (
    TileDrawing,
    num_rows_of_each,
    rows,
    rows_of,
    tiles_of_each,
    wholes,
)

DRAWING = TileDrawing(tiling=Tiling(tile_px=40, overlap_px=8), size_px=20, num=5, seed=0)


def file_of(height_px: int, width_px: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_an_image_lends_a_picture_of_the_whole_and_some_tiles() -> None:
    data = file_of(90, 130)
    found = DRAWING.decode(data)
    assert found.pixels.shape == DRAWING.shape == (6, 20, 20, 3)
    assert (found.source_width_px, found.source_height_px) == (130, 90)
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    whole = cv2.resize(pixels, (20, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(found.pixels[0], whole)
    assert len({each.tobytes() for each in found.pixels[1:]}) == 5
    np.testing.assert_array_equal(DRAWING.decode(data).pixels, found.pixels)


def test_an_image_smaller_than_a_tile_lends_none() -> None:
    with pytest.raises(ImageError, match="130 x 39 pixels are less than one tile of 40 x 40"):
        DRAWING.decode(file_of(39, 130))


@pytest.mark.parametrize(("num_images", "num"), [(1, 32), (46, 32), (100, 15), (5000, 1)])
def test_many_images_lend_few_tiles_each(num_images: int, num: int) -> None:
    assert tiles_of_each(num_images) == num


def test_rows_are_those_of_the_tiles_or_of_the_images() -> None:
    pixels = np.arange(3 * 4 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 4, 2, 2, 3)
    assert num_rows_of_each(pixels) == 3
    np.testing.assert_array_equal(rows(pixels)[rows_of(pixels, [0, 2])][3:], pixels[2, 1:])
    np.testing.assert_array_equal(wholes(pixels), pixels[:, 0])
    untiled = wholes(pixels)
    assert rows_of(untiled, [0, 2]).tolist() == [0, 2]
    assert num_rows_of_each(untiled) == 1
