"""Tiles cover an image, and their fields become one field without steps."""

import re

import numpy as np
import pytest

from vqad.images import tiles
from vqad.images.tiles import Blend, TileGrid, Tiling, drawn_corners, largest_of_blocks

SIZES = [(64, 64), (64, 100), (129, 250), (77, 301)]


def blended(grid: TileGrid, whole: np.ndarray, places: int) -> np.ndarray:
    """The blend of fields that are cut out of a picture with one place a pixel."""
    blend = Blend(grid, places=places)
    for at, (top, left) in enumerate(grid.corners):
        side = grid.tiling.tile_px
        blend.add(at, whole[top : top + side, left : left + side])
    return blend.whole


def test_the_last_tiles_end_at_the_edge_and_neighbours_overlap() -> None:
    grid = Tiling(tile_px=64, overlap_px=16).grid(129, 250)
    assert grid.tops == (0, 48, 65)
    assert grid.lefts == (0, 48, 96, 144, 186)
    assert len(grid) == len(grid.corners) == 15


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap_px", [0, 10, 32])
@pytest.mark.parametrize("shift_px", [0, 13])
def test_fields_of_one_picture_become_the_picture(
    size: tuple[int, int], overlap_px: int, shift_px: int
) -> None:
    grid = Tiling(tile_px=64, overlap_px=overlap_px).grid(*size, shift_px=shift_px)
    whole = np.random.default_rng(0).random(size, np.float32)
    np.testing.assert_allclose(blended(grid, whole, 64), whole, atol=1e-6)


def test_places_between_pixels_are_interpolated() -> None:
    tiling = Tiling(tile_px=64, overlap_px=16)
    grid = tiling.grid(101, 149)
    blend = Blend(grid, places=16)
    for at, (top, left) in enumerate(grid.corners):
        y, x = np.mgrid[:16, :16].astype(np.float32)
        blend.add(at, top + 4 * (y + 0.5) + 3 * (left + 4 * (x + 0.5)))
    rows, cols = blend.whole.shape
    assert (rows, cols) == (25, 37)
    y, x = np.mgrid[:rows, :cols]
    wanted = (y + 0.5) * 101 / rows + 3 * (x + 0.5) * 149 / cols
    # At the tiles' own edges nothing lies beyond their outermost places.
    np.testing.assert_allclose(blend.whole[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=2)
    np.testing.assert_allclose(blend.whole[1:8, 1:8], wanted[1:8, 1:8], atol=1e-2)


def test_one_tile_gives_its_field_in_bits() -> None:
    field = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    for overlap_px in (0, 16):
        blend = Blend(Tiling(tile_px=64, overlap_px=overlap_px).grid(64, 64), places=16)
        blend.add(0, field)
        np.testing.assert_array_equal(blend.whole, field)


def test_a_tile_that_differs_makes_no_step_at_its_edge() -> None:
    grid = Tiling(tile_px=64, overlap_px=16).grid(64, 160)
    blend = Blend(grid, places=64)
    for at in range(len(grid)):
        blend.add(at, np.full((64, 64), at == 1, np.float32))
    (row,) = {tuple(each) for each in blend.whole.tolist()}
    assert max(np.abs(np.diff(row))) < 2 / 16
    assert (row[0], max(row), row[-1]) == (0, 1, 0)


@pytest.mark.parametrize("size_px", [64, 256])
def test_a_stored_map_has_at_most_four_megapixels(size_px: int) -> None:
    grid = Tiling(tile_px=256, overlap_px=32).grid(10_000, 10_000)
    rows, cols = grid.shape(grid.places_of_map(size_px))
    assert tiles.MOST_MAP_PIXELS / 5 < rows * cols <= tiles.MOST_MAP_PIXELS
    small = Tiling(tile_px=512).grid(3000, 4096)
    assert small.shape(small.places_of_map(256)) == (1500, 2048)


def test_blocks_keep_their_largest_value() -> None:
    field = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert largest_of_blocks(field, 2).tolist() == [[5, 7], [13, 15]]


def test_tiles_to_learn_from_lie_anywhere_in_the_image() -> None:
    grid = Tiling(tile_px=64, overlap_px=16).grid(129, 250)
    corners = drawn_corners(grid, 400, np.random.default_rng(0))
    tops, lefts = (np.array(each) for each in zip(*corners, strict=True))
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 65, 0, 186)
    assert len(set(lefts.tolist())) > 100
    assert np.mean(lefts == 186) > 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 8}, "tile_px must be from 16 to 10000, got 8"),
        (
            {"tile_px": 64, "overlap_px": 33},
            "tile_overlap_px must be from 0 to half of tile_px, 32, got 33",
        ),
    ],
)
def test_tiles_that_cover_nothing_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Tiling(**options)


def test_an_image_smaller_than_a_tile_is_refused() -> None:
    message = "300 x 200 pixels are less than one tile of 256 x 256; train with a smaller --tile-px"
    with pytest.raises(ValueError, match=re.escape(message)):
        Tiling(tile_px=256).grid(200, 300)
