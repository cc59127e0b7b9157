"""Where a source image lies in the model's square input, and which of its pixels count.

The input is square. `squash` stretches the image over all of it. `pad` keeps the aspect ratio: the
image lies in the middle, and padding fills the rest. A region of interest leaves out a part of the
image. Both are one thing here: some pixels of the input count, and the others take the colour of
the nearest pixel that counts. So nothing that does not count can change what is found, and no edge
appears at the border. A product that lies in any direction is turned into one pose, and what is
found is turned back (`alignment`).

A map that is stored covers exactly the source image, whatever its height and width are. It is 0
where the image does not count.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

from vqad.images.pose import Pose
from vqad.images.roi import RegionOfInterest, of_same_shape, resized
from vqad.images.tiles import Tiling

Resize = Literal["squash", "pad"]
Size = tuple[int, int]  # width and height of a source image in pixels
Counted = Bool[ndarray, "height width"]  # True for each pixel that counts
Places = Bool[ndarray, "rows cols"]  # True for each place of a grid that counts
SomePlaces = Bool[ndarray, "num rows cols"]  # the same of some images

_LEAST_SHARE: Final = 0.5  # of a place, that has to count


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """The form of the images that a detector takes."""

    size_px: int  # of the model's square input
    resize: Resize = "squash"
    # Width and height of the images that a region of interest was made for; None without one.
    roi_source_px: Size | None = None
    tiling: Tiling | None = None  # each image is looked at by tiles, which have this size then

    def refusal(self, source: Size) -> str:
        """Why an image of this size can't be taken; "" if it can."""
        if self.tiling and (reason := self.tiling.too_small(source[1], source[0])):
            return reason
        # Tiles have the image's own scale, so one of another size shows another product.
        agree = operator.eq if self.tiling else of_same_shape
        if self.roi_source_px is None or agree(source, self.roi_source_px):
            return ""
        width, height = self.roi_source_px
        return (
            f"{source[0]} x {source[1]} pixels, but the region of interest is of images of "
            f"{width} x {height}"
        )

    def shape_of(self, source: Size) -> tuple[int, int]:
        """Height and width in the input of a source image."""
        size_px = self.size_px
        if self.resize == "squash" or source[0] == source[1]:
            return size_px, size_px
        width, height = (max(1, round(side * size_px / max(source))) for side in source)
        # The padding is as wide on both sides, so that a half turn does not move it.
        return height + (size_px - height) % 2, width + (size_px - width) % 2

    def with_padding(self, pixels: ndarray) -> ndarray:
        """The source's pixels (height, width, channels), resized, and padded to a square."""
        height, width = self.shape_of((pixels.shape[1], pixels.shape[0]))
        inner = resized(pixels, (height, width))
        down, right = (self.size_px - height) // 2, (self.size_px - width) // 2
        if not down and not right:
            return inner
        return cv2.copyMakeBorder(inner, down, down, right, right, cv2.BORDER_REPLICATE)


@dataclass(frozen=True, eq=False, kw_only=True)
class Placement:
    """How a source image lies in the model's square input."""

    size_px: int
    shape: tuple[int, int]  # height and width of the image in the input, and of its map
    inside: Counted | None  # of the map; None if all of it counts
    pose: Pose | None = None  # of the product in the input, if it is turned before it is inspected

    @property
    def box(self) -> tuple[slice, slice]:
        """The image's rows and columns in the input."""
        starts = [(self.size_px - side) // 2 for side in self.shape]
        rows, cols = (
            slice(start, start + side) for start, side in zip(starts, self.shape, strict=True)
        )
        return rows, cols

    @cached_property
    def counted(self) -> Counted | None:
        """The pixels of the input that count; None if all do."""
        if self.inside is None and self.shape == (self.size_px, self.size_px):
            return None
        found = np.zeros((self.size_px, self.size_px), bool)
        found[self.box] = True if self.inside is None else self.inside
        return found

    def cropped(self, square: ndarray) -> ndarray:
        """The part of a map, or of a picture, of the input that covers the source image."""
        return square[self.box] if self.shape != square.shape[:2] else square

    def map_of(self, square: ndarray) -> ndarray:
        """A map of the input as one of the source image, 0 where it does not count."""
        found = self.picture_of(square)
        return found if self.inside is None else np.where(self.inside, found, np.float32(0))

    def picture_of(self, square: ndarray) -> ndarray:
        """A map, or a decoded picture, of the input as one of the source image."""
        return self.cropped(self.pose.turned_back(square) if self.pose else square)

    def counted_places(self, grid: int) -> Places | None:
        """The places of a square grid that count, at least one of them; None if all do."""
        if self.counted is None:
            return None
        if grid not in self._places:
            self._places[grid] = _counted_places(self.counted, grid)
        return self._places[grid]

    @cached_property
    def _places(self) -> dict[int, Places]:
        return {}

    def in_square(self, picture: ndarray) -> ndarray:
        """The input of a picture (height, width, channels) that covers the source image."""
        if self.counted is None:
            return picture
        square = np.zeros((self.size_px, self.size_px, *picture.shape[2:]), picture.dtype)
        square[self.box] = picture
        return self.filled(square)

    def filled(self, pixels: ndarray) -> ndarray:
        """Pixels (size, size, channels) of which those that don't count have the nearest colour."""
        if self.counted is None:
            return pixels
        return pixels.reshape(-1, *pixels.shape[2:])[self.nearest].reshape(pixels.shape)

    @cached_property
    def nearest(self) -> Int64[ndarray, " pixels"]:
        """For each pixel of the input, the position in it of the nearest pixel that counts."""
        assert self.counted is not None
        return _nearest(self.counted)

    def filled_field(self, field: ndarray) -> ndarray:
        """A field of a square grid of which places that don't count have the nearest value."""
        places = self.counted_places(len(field))
        return field if places is None else with_nearest(field, places)


@dataclass(frozen=True, eq=False, kw_only=True)
class Geometry:
    """How the source images of a detector lie in its input, and which part of them counts."""

    form: ImageForm
    roi: RegionOfInterest | None = None

    def placement(self, source: Size | None = None) -> Placement:
        """The placement of an image of this size; None is one that is square.

        Of a detector with tiles, it is that of a tile, all of which counts; `tile_regions` has
        those of the tiles of a region of interest.
        """
        return _placement(self, source or (self.form.size_px, self.form.size_px))

    def counted_of_map(self, source: Size, shape: tuple[int, int]) -> Counted | None:
        """The pixels that count of an image's map of this height and width; None if all do."""
        if self.form.tiling is None:
            return self.placement(source).inside
        return None if self.roi is None else counted_of_shape(self.roi, shape)

    def placements(self, num: int, sources: Sequence[Size] | None) -> list[Placement]:
        """The placements of a batch of images, which are square if no sizes are given."""
        if sources is None:
            return [self.placement()] * num
        if len(sources) != num:
            raise ValueError(f"{num} images need as many source sizes, got {len(sources)}")
        return [self.placement(each) for each in sources]


@dataclass(frozen=True, kw_only=True)
class Cropped:
    """Decoded pixels (num, size, size, 3) without padding, each when it is asked for."""

    pixels: ndarray
    placements: Sequence[Placement]

    def __len__(self) -> int:
        return len(self.placements)

    def __getitem__(self, at: int) -> ndarray:
        """The pixels of one source image (height, width, 3)."""
        return self.placements[at].cropped(self.pixels[at])


def places_of(placements: Sequence[Placement], grid: int) -> SomePlaces | None:
    """The places of a grid that count in each of some images; None if all do in all of them."""
    found = [each.counted_places(grid) for each in placements]
    if all(each is None for each in found):
        return None
    return np.stack([np.ones((grid, grid), bool) if each is None else each for each in found])


@lru_cache(maxsize=256)  # a camera has one size, so that an archive has few
def _placement(geometry: Geometry, source: Size) -> Placement:
    shape = geometry.form.shape_of(source)
    inside = geometry.roi.counted(shape) if geometry.roi and not geometry.form.tiling else None
    return Placement(size_px=geometry.form.size_px, shape=shape, inside=inside)


@lru_cache(maxsize=8)
def counted_of_shape(roi: RegionOfInterest, shape: tuple[int, int]) -> Counted:
    """The pixels inside of a map of all of an image. Raises ValueError if there are none."""
    return roi.counted(shape)


def _counted_places(counted: Counted, grid: int) -> Places:
    shares = cv2.resize(counted.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
    found: Places = shares >= min(_LEAST_SHARE, float(shares.max()))
    return found


def with_nearest(field: ndarray, counted: Places) -> ndarray:
    """A field of which places that don't count have the value of the nearest one that does."""
    return field.ravel()[_nearest(counted)].reshape(field.shape)


def _nearest(counted: Bool[ndarray, "height width"]) -> Int64[ndarray, " positions"]:
    """For each position, that of the nearest one that counts."""
    _, labels = cv2.distanceTransformWithLabels(
        (~counted).view(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    of_label = np.zeros(int(labels.max()) + 1, np.int64)
    of_label[labels[counted]] = np.flatnonzero(counted)
    found: ndarray = of_label[labels.ravel()]
    return found
