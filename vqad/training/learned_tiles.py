"""The tiles of good images that a detector with tiles learns from.

An image may have thousands of tiles, and all images together more than any fit can use. So each
image lends the same small number of tiles, from anywhere in it, and a small picture of the whole,
by which copies are found and the kind of the product. The rows of the pixels are

    (images, 1 + tiles, size, size, 3):  the whole image first, then its tiles

Whole images are read again, one at a time, where their scores are needed.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64, Integer
from numpy import ndarray

from vqad.array_types import Pixels
from vqad.images import decoding
from vqad.images.decoding import SourceValues, WholeImage
from vqad.images.headers import ImageError
from vqad.images.roi import RegionOfInterest
from vqad.images.tile_regions import Corner, drawn_inside, filled_picture, tile_placement
from vqad.images.tiles import TileGrid, Tiling
from vqad.training.options import TrainOptions

Rows = Integer[ndarray, "rows height width 3"]

# Guesses: a fit of the preset `laptop` draws 6,000 pictures, with replacement.
_MOST_TILES: Final = 1500  # of all images together
_MOST_OF_ONE: Final = 32


@dataclass(frozen=True, kw_only=True)
class DecodedTiles:
    """Some tiles of an image, after a picture of all of it."""

    pixels: Integer[ndarray, "pictures height width 3"]  # uint8 or uint16, RGB
    source_width_px: int  # after EXIF rotation
    source_height_px: int
    values: SourceValues | None

    @property
    def source_px(self) -> tuple[int, int]:
        """Width and height of the source image."""
        return self.source_width_px, self.source_height_px


def drawing_of(options: TrainOptions, *, size_px: int, num_images: int) -> "TileDrawing | None":
    """How tiles are drawn from so many images, by the options of a fit; None without tiles."""
    if options.tiling is None:
        return None
    return TileDrawing(
        tiling=options.tiling,
        size_px=size_px,
        num=tiles_of_each(num_images),
        seed=options.seed,
    )


@dataclass(frozen=True, kw_only=True)
class TileDrawing:
    """How tiles are drawn from each image."""

    tiling: Tiling
    size_px: int  # of the model's input
    num: int  # tiles of each image
    seed: int
    roi: RegionOfInterest | None = None  # tiles show enough of it, and are filled outside of it

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of an image's row."""
        return 1 + self.num, self.size_px, self.size_px, 3

    def decode(self, data: bytes) -> DecodedTiles:
        """Decode one image file; raises ImageError, also for an image smaller than a tile."""
        with decoding.opened_whole(data, with_values=True) as image:
            height_px, width_px = image.height_px, image.width_px
            if reason := self.tiling.too_small(height_px, width_px):
                raise ImageError("unsupported", reason)
            whole = filled_picture(self.roi, image.small(self.size_px))
            # By its contents, so that an image has the same tiles in another folder; those outside
            # of the region choose none.
            contents = zlib.crc32(data if self.roi is None else whole.tobytes())
            rng = np.random.default_rng([self.seed, contents])
            grid = self.tiling.grid(height_px, width_px)
            corners = drawn_inside(grid, self.roi, self.num, rng)
            pixels = np.stack([whole, *(self._tile(image, grid, each) for each in corners)])
        return DecodedTiles(
            pixels=pixels,
            source_width_px=width_px,
            source_height_px=height_px,
            values=image.values,
        )

    def _tile(self, image: WholeImage, grid: TileGrid, corner: Corner) -> Pixels:
        pixels = image.tile(*corner, tile_px=self.tiling.tile_px, size_px=self.size_px)
        return tile_placement(self.roi, grid, corner, size_px=self.size_px).filled(pixels)


def tiles_of_each(num_images: int) -> int:
    """Number of tiles that each of so many images lends."""
    return max(1, min(_MOST_OF_ONE, _MOST_TILES // max(1, num_images)))


def wholes(pixels: ndarray) -> Rows:
    """The pictures of whole images; ``pixels`` as they are if there are no tiles."""
    return pixels[:, 0] if pixels.ndim == 5 else pixels


def rows(pixels: ndarray) -> Rows:
    """All pictures, one a row."""
    return pixels.reshape(-1, *pixels.shape[-3:])


def rows_of(pixels: ndarray, images: Sequence[int] | ndarray) -> Int64[ndarray, " rows"]:
    """The rows to learn from of the images at these positions: their tiles, or themselves."""
    positions = np.asarray(images, np.int64)
    if pixels.ndim == 4:
        return positions
    num = pixels.shape[1]
    return (positions[:, None] * num + np.arange(1, num)).ravel()


def num_rows_of_each(pixels: ndarray) -> int:
    """Rows to learn from of each image."""
    return 1 if pixels.ndim == 4 else pixels.shape[1] - 1
