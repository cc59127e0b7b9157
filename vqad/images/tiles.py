"""Square tiles of an image, and how what is found in them becomes one map of the whole image.

An image with more pixels than the networks take is cut into squares of ``tile_px`` source pixels.
Neighbours overlap by at least ``overlap_px``; the last row and the last column are moved inwards to
end at the image's edge. Each tile gives a square field of places. The fields of all tiles are
blended over their overlaps into one field, which covers the whole image linearly:

    whole = sum over tiles of weight * field,   weight = min(1, distance to the edge / overlap)

divided by the sum of all weights at that place. So the field has no step where one tile ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray
from numpy.random import Generator

T = TypeVar("T")

SMALLEST_TILE_PX: Final = 16
LARGEST_TILE_PX: Final = 10_000
MOST_MAP_PIXELS: Final = 4 * 2**20  # of the whole image's map, as it is stored


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How images are cut, in pixels of the source image."""

    tile_px: int  # side of a tile
    overlap_px: int = 0  # that neighbours share at least

    def __post_init__(self) -> None:
        """Refuse tiles that cover no image."""
        if not SMALLEST_TILE_PX <= self.tile_px <= LARGEST_TILE_PX:
            raise ValueError(
                f"tile_px must be from {SMALLEST_TILE_PX} to {LARGEST_TILE_PX}, got {self.tile_px}"
            )
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(
                f"tile_overlap_px must be from 0 to half of tile_px, {self.tile_px // 2}, "
                f"got {self.overlap_px}"
            )

    def too_small(self, height_px: int, width_px: int) -> str:
        """Why an image of this size has no tiles; "" if it has."""
        if min(height_px, width_px) >= self.tile_px:
            return ""
        return (
            f"{width_px} x {height_px} pixels are less than one tile of {self.tile_px} x "
            f"{self.tile_px}; train with a smaller --tile-px"
        )

    def area_in_map(
        self, area_px: int, *, size_px: int, shape: tuple[int, ...], source_px: tuple[int, int]
    ) -> int:
        """An area in pixels of the model's input, as one in pixels of a whole image's map.

        ``size_px`` is the side of that input, ``source_px`` width and height of the image. The map
        may be smaller than all tiles at the size of the input.
        """
        side = self.tile_px / size_px  # of a pixel of the input, in pixels of the source
        inputs = source_px[0] * source_px[1] / side**2
        return max(1, round(area_px * shape[0] * shape[1] / inputs))

    def grid(self, height_px: int, width_px: int, *, shift_px: int = 0) -> "TileGrid":
        """The tiles of an image of this size. Raises ValueError if it is smaller than a tile.

        With ``shift_px``, all but the outermost tiles lie so far down and to the right.
        """
        if reason := self.too_small(height_px, width_px):
            raise ValueError(reason)
        return TileGrid(
            tiling=self,
            height_px=height_px,
            width_px=width_px,
            tops=self._starts(height_px, shift_px),
            lefts=self._starts(width_px, shift_px),
        )

    def _starts(self, length_px: int, shift_px: int) -> tuple[int, ...]:
        last, step = length_px - self.tile_px, self.tile_px - self.overlap_px
        between = range(shift_px, last, step)
        return tuple(sorted({0, *between, last}))


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """The tiles of one image: those with a corner at each of ``tops`` and each of ``lefts``."""

    tiling: Tiling
    height_px: int  # of the image
    width_px: int
    tops: tuple[int, ...]  # px from the image's edge
    lefts: tuple[int, ...]
    left_out: frozenset[int] = frozenset()  # tiles that are not looked at, numbered row by row

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts) - len(self.left_out)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Top and left of each tile that is looked at, row by row."""
        return self.kept((top, left) for top in self.tops for left in self.lefts)

    def kept(self, of_tiles: Iterable[T]) -> list[T]:
        """What belongs to tiles that are looked at, of something of all tiles, row by row."""
        return [each for at, each in enumerate(of_tiles) if at not in self.left_out]

    def shape(self, places: int) -> tuple[int, int]:
        """Rows and columns of the whole image, if a tile has so many places on each side."""
        rows, cols = (
            max(1, round(length_px * places / self.tiling.tile_px))
            for length_px in (self.height_px, self.width_px)
        )
        return rows, cols

    def places_of_map(self, size_px: int) -> int:
        """Places on each side of a tile with which the whole map has at most `MOST_MAP_PIXELS`.

        That is ``size_px``, the side of the model's input, halved as often as it needs.
        """
        places = size_px
        while np.prod(self.shape(places)) > MOST_MAP_PIXELS and places > 1:
            places //= 2
        return places


def drawn_corners(grid: TileGrid, num: int, rng: Generator) -> list[tuple[int, int]]:
    """Corners of ``num`` tiles to learn from: those of a grid, each moved by up to half a step.

    A tile may show any part of a product, so the tiles of training are not those of one grid. Those
    at the edges are often moved against the edge, where tiles of an inspection always end.
    """
    order = [at % len(grid) for at in rng.permutation(max(num, len(grid)))[:num]]
    half = (grid.tiling.tile_px - grid.tiling.overlap_px) // 2
    moved = np.array(grid.corners)[order] + rng.integers(-half, half + 1, (num, 2))
    last = np.array([grid.height_px, grid.width_px]) - grid.tiling.tile_px
    return [(int(top), int(left)) for top, left in moved.clip(0, last)]


def largest_of_blocks(
    field: Float32[ndarray, "rows cols"], factor: int
) -> Float32[ndarray, "small_rows small_cols"]:
    """The field reduced by the largest value of each block of ``factor`` x ``factor`` places."""
    rows, cols = (length // factor for length in field.shape)
    return field.reshape(rows, factor, cols, factor).max((1, 3))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Where the places of a tile lie on one side of the whole field."""

    inside: slice  # of the whole field
    before: Int64[ndarray, " inside"]  # the place of the tile just before each of these
    after: Int64[ndarray, " inside"]
    share: Float32[ndarray, " inside"]  # of the place after
    weight: Float32[ndarray, " inside"]


class Blend:
    """The field of a whole image, to which the fields of its tiles are added one by one."""

    def __init__(self, grid: TileGrid, *, places: int) -> None:
        """``places`` are those of a tile's field on each side."""
        shape = grid.shape(places)
        self._sum: Float32[ndarray, "rows cols"] = np.zeros(shape, np.float32)
        # The weights of all tiles add up to 1; those of some of them may not.
        self._weight = np.zeros(shape, np.float32) if grid.left_out else None
        rows = list(_parts(grid.tops, grid.height_px, shape[0], places, grid.tiling))
        cols = list(_parts(grid.lefts, grid.width_px, shape[1], places, grid.tiling))
        self._parts = grid.kept((row, col) for row in rows for col in cols)

    def add(self, at: int, field: Float32[ndarray, "places places"]) -> None:
        """Add the field of one tile; ``at`` is its position among the corners of the grid."""
        row, col = self._parts[at]
        found = _between(field, row)
        found = _between(found.T, col).T
        weight = row.weight[:, None] * col.weight
        self._sum[row.inside, col.inside] += weight * found
        if self._weight is not None:
            self._weight[row.inside, col.inside] += weight

    @property
    def whole(self) -> Float32[ndarray, "rows cols"]:
        """The field of the whole image, 0 where no tile is."""
        if self._weight is None:
            return self._sum
        return self._sum / np.where(self._weight > 0, self._weight, np.float32(1))

    @property
    def covered(self) -> Bool[ndarray, "rows cols"] | None:
        """The places where a tile is; None if there is one everywhere."""
        return None if self._weight is None else self._weight > 0


def _between(field: ndarray, part: _Part) -> ndarray:
    """Linear interpolation along the first axis."""
    share = part.share[:, None]
    return field[part.before] * (1 - share) + field[part.after] * share


def _parts(
    starts: Sequence[int], length_px: int, num_whole: int, places: int, tiling: Tiling
) -> Iterator[_Part]:
    """The part of each tile, with weights that add up to 1 at each place."""
    centres = (np.arange(num_whole) + 0.5) * (length_px / num_whole)
    weights = np.stack([_weights(centres - start, tiling) for start in starts])
    weights /= weights.sum(0)
    for start, weight in zip(starts, weights, strict=True):
        (inside,) = np.nonzero(weight)
        window = slice(int(inside[0]), int(inside[-1]) + 1)
        # Rounded, so that places that coincide are equal in bits.
        position = np.round((centres[window] - start) * (places / tiling.tile_px) - 0.5, 9)
        position = position.clip(0, places - 1)
        before = np.floor(position).astype(np.int64)
        yield _Part(
            inside=window,
            before=before,
            after=np.minimum(before + 1, places - 1),
            share=(position - before).astype(np.float32),
            weight=weight[window].astype(np.float32),
        )


def _weights(within_px: ndarray, tiling: Tiling) -> ndarray:
    """Weights by the distance from the tile's first edge; 0 outside of it."""
    distance = np.minimum(within_px, tiling.tile_px - within_px)
    if not tiling.overlap_px:
        return ((within_px >= 0) & (within_px < tiling.tile_px)).astype(np.float64)
    return (distance / tiling.overlap_px).clip(0, 1)
