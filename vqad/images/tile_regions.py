"""A region of interest of images that are looked at by tiles.

The region is of the whole image. A tile of which no pixel counts is not looked at. In the others,
pixels that don't count take the colour of the nearest pixel of the tile that does, so nothing
outside the region changes what is found in a tile. In the field of the whole image, places that
don't count take the nearest value.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray
from numpy.random import Generator

from vqad.images.placement import Counted, Placement, Places
from vqad.images.roi import RegionOfInterest, resized, whole_pixels
from vqad.images.tiles import TileGrid, drawn_corners

Mask = Bool[ndarray, "mask_height mask_width"]
Corner = tuple[int, int]  # top and left of a tile, in pixels of the image

_LEAST_SHARE: Final = 0.5  # of a place of the whole field, that has to be inside
# A guess, of a tile to learn from: one with less shows hardly more than a few colours.
LEAST_LEARNED: Final = 0.1
_MOST_DRAWN: Final = 8  # times as many corners as are needed


def tile_placement(
    roi: RegionOfInterest | None, grid: TileGrid, corner: Corner, *, size_px: int
) -> Placement:
    """What counts of a tile that becomes a square of ``size_px``."""
    inside = None if roi is None else _inside(roi, grid, corner, size_px)
    if inside is not None and inside.all():
        inside = None
    return Placement(size_px=size_px, shape=(size_px, size_px), inside=inside)


@lru_cache(maxsize=8)  # a camera has one size
def looked_at(grid: TileGrid, roi: RegionOfInterest | None, *, size_px: int) -> TileGrid:
    """The grid without the tiles of which no pixel counts. Raises ValueError if none is left."""
    if roi is None:
        return grid
    corners = ((top, left) for top in grid.tops for left in grid.lefts)
    left_out = frozenset(
        at for at, each in enumerate(corners) if not _inside(roi, grid, each, size_px).any()
    )
    found = replace(grid, left_out=left_out)
    if not len(found):
        raise ValueError(
            f"the region of interest has no whole pixel of a tile of {grid.tiling.tile_px} x "
            f"{grid.tiling.tile_px} pixels; draw it larger"
        )
    return found


def counted_places(
    roi: RegionOfInterest, shape: tuple[int, int], covered: Places | None
) -> Bool[ndarray, "rows cols"]:
    """The places that count of a field of the whole image; ``covered`` are those with a tile."""
    shares = resized(roi.mask.astype(np.float32), shape)
    if covered is not None:
        shares = np.where(covered, shares, np.float32(0))
    found: ndarray = shares >= min(_LEAST_SHARE, float(shares.max()))
    return found


def drawn_inside(
    grid: TileGrid, roi: RegionOfInterest | None, num: int, rng: Generator
) -> list[Corner]:
    """Corners of ``num`` tiles to learn from that show enough of the region.

    Some are the same if only a few are found.
    """
    if roi is None:
        return drawn_corners(grid, num, rng)
    corners = drawn_corners(grid, max(_MOST_DRAWN * num, 2 * len(grid)), rng)
    shares = _shares(roi, grid, corners)
    (enough,) = np.nonzero(shares >= min(LEAST_LEARNED, float(shares.max())))
    return [corners[at] for at in np.resize(enough, num)]


def filled_picture(roi: RegionOfInterest | None, pixels: ndarray) -> ndarray:
    """A small picture (size, size, channels) of all of an image, filled as a tile is.

    It stays as it is where the region has none of its pixels.
    """
    if roi is None:
        return pixels
    inside, size_px = whole_pixels(roi.mask, pixels.shape[:2]), len(pixels)
    if inside.all() or not inside.any():
        return pixels
    return Placement(size_px=size_px, shape=(size_px, size_px), inside=inside).filled(pixels)


def _inside(roi: RegionOfInterest, grid: TileGrid, corner: Corner, size_px: int) -> Counted:
    """The pixels of a tile, at the size of the model's input, that count."""
    side, (height, width) = grid.tiling.tile_px, roi.mask.shape
    rows = _spans(corner[0], side, grid.height_px, height)
    cols = _spans(corner[1], side, grid.width_px, width)
    mask = roi.mask[rows[0, 0] : rows[1, -1], cols[0, 0] : cols[1, -1]]
    if mask.all() or not mask.any():
        return np.full((size_px, size_px), bool(mask.all()))
    return whole_pixels(_stretched(mask, rows - rows[0, 0], cols - cols[0, 0]), (size_px, size_px))


def _spans(start: int, side: int, length_px: int, num: int) -> Int64[ndarray, "2 side"]:
    """First and last, exclusive, of the mask's ``num`` rows that each row of a tile overlaps."""
    edges = np.arange(start, start + side + 1) * num
    return np.stack([edges[:-1] // length_px, -(-edges[1:] // length_px)])


def _stretched(
    mask: Mask, rows: Int64[ndarray, "2 side"], cols: Int64[ndarray, "2 side"]
) -> Bool[ndarray, "side side"]:
    """The mask at the size of the tile: true where all that a pixel overlaps is."""
    sums = cv2.integral((~mask).view(np.uint8))
    (top, bottom), (left, right) = rows, cols
    num_outside = (sums[bottom] - sums[top])[:, right] - (sums[bottom] - sums[top])[:, left]
    found: ndarray = num_outside == 0
    return found


def _shares(
    roi: RegionOfInterest, grid: TileGrid, corners: Sequence[Corner]
) -> Float64[ndarray, " tiles"]:
    """How much of each tile is inside."""
    sums, (height, width) = _sums_of(roi), roi.mask.shape
    top, left = np.array(corners).T
    side = grid.tiling.tile_px
    rows = np.stack([top * height // grid.height_px, -(-(top + side) * height // grid.height_px)])
    cols = np.stack([left * width // grid.width_px, -(-(left + side) * width // grid.width_px)])
    num = sums[rows[1], cols[1]] - sums[rows[0], cols[1]] - sums[rows[1], cols[0]]
    areas = (rows[1] - rows[0]) * (cols[1] - cols[0])
    return (num + sums[rows[0], cols[0]]) / areas


@lru_cache(maxsize=2)
def _sums_of(roi: RegionOfInterest) -> ndarray:
    return cv2.integral(roi.mask.view(np.uint8))
