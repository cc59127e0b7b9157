"""The smallest defect that a detector can find: in pixels of its map, of the image, and in mm.

A detector's minimum area counts pixels of its map. People know the size of a defect in pixels of
the image or in square millimetres. How many pixels of the image one pixel of the map covers follows
from the size of the training images; the detector keeps that ratio, so an area in other units is
converted once. Of images of several sizes, the one with the median area decides.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vqad.images.placement import ImageForm, Size
from vqad.training.options import TrainOptions

# Height and width of the map of an image of this width and height.
MapShape = Callable[[Size], tuple[int, int]]

_ROUNDING: Final = 1e-9  # share of an area that may come from converting its unit


@dataclass(frozen=True, kw_only=True)
class MapPixel:
    """One pixel of the map of an image, in pixels of the image."""

    source: Size  # of the image
    width_px: float
    height_px: float

    @property
    def area_px(self) -> float:
        """Pixels of the image that it covers."""
        return self.width_px * self.height_px


def map_pixel(sources: Sequence[Size], shape_of: MapShape) -> MapPixel | None:
    """The pixel of the map of the image with the median area; None without images."""
    if not sources:
        return None
    width, height = sorted(sources, key=lambda each: each[0] * each[1])[len(sources) // 2]
    rows, cols = shape_of((width, height))
    return MapPixel(source=(width, height), width_px=width / cols, height_px=height / rows)


def map_shape(options: TrainOptions, size_px: int) -> MapShape:
    """The map's height and width by those of an image, before any detector is there.

    ``size_px`` is the side of the model's input. For tiles, the map has as many pixels in a tile.
    """
    tiling = options.tiling
    if tiling is None:
        return ImageForm(size_px=size_px, resize=options.known_resize).shape_of
    return lambda source: tiling.grid(source[1], source[0]).shape(size_px)


@dataclass(frozen=True, kw_only=True)
class MinimumArea:
    """The smallest area of a defect."""

    area_px: int  # pixels of the map
    pixel: MapPixel | None  # None if the size of the images is not known
    px_per_mm: float | None

    def record(self) -> dict[str, int | float | None]:
        """The area in all units; None where it is not known."""
        area_px = self.area_px * self.pixel.area_px if self.pixel else None
        scale = self.px_per_mm
        return {
            "minimum_area_px": self.area_px,
            "minimum_area_source_px": area_px and round(area_px, 1),
            "minimum_area_mm2": round(area_px / scale**2, 4) if area_px and scale else None,
        }

    def describe(self) -> str:
        """The smallest defect that can be found, for people."""
        text = f"the smallest defect that can be found has {self.area_px} pixels of the map"
        if self.pixel is None:
            return text
        # As if it were square on the map.
        side = math.sqrt(self.area_px)
        width_px, height_px = side * self.pixel.width_px, side * self.pixel.height_px
        area_px = self.area_px * self.pixel.area_px
        text += (
            f", {area_px:,.0f} of an image of {self.pixel.source[0]} x {self.pixel.source[1]}: "
            f"about {width_px:.0f} x {height_px:.0f}"
        )
        if self.px_per_mm is None:
            return text
        return (
            f"{text}, or {area_px / self.px_per_mm**2:.3g} mm2, {width_px / self.px_per_mm:.3g} x "
            f"{height_px / self.px_per_mm:.3g} mm"
        )


def minimum_area(options: TrainOptions, pixel: MapPixel | None, *, default_px: int) -> MinimumArea:
    """The minimum area that options ask for; ``default_px`` if they ask for none.

    Raises ValueError for an area that is less than one pixel of the map.
    """
    scale = options.px_per_mm
    name, asked_px = _asked(options)
    if asked_px is None:
        area_px = default_px if options.minimum_area_px is None else options.minimum_area_px
        return MinimumArea(area_px=area_px, pixel=pixel, px_per_mm=scale)
    if pixel is None:
        raise ValueError(f"{name} needs the size of the images, and there is none")
    num = asked_px / pixel.area_px
    if num < 1 - _ROUNDING:
        raise ValueError(_too_small(options, name, pixel))
    # Rounded up, so that no smaller region is a defect.
    return MinimumArea(area_px=math.ceil(num * (1 - _ROUNDING)), pixel=pixel, px_per_mm=scale)


def _asked(options: TrainOptions) -> tuple[str, int | float | None]:
    """The option that asks for an area of the image, and that area in its pixels."""
    if options.minimum_area_mm2 is None:
        return "minimum_area_source_px", options.minimum_area_source_px
    assert options.px_per_mm is not None
    return "minimum_area_mm2", options.minimum_area_mm2 * options.px_per_mm**2


def _too_small(options: TrainOptions, name: str, pixel: MapPixel) -> str:
    least, unit = pixel.area_px, "pixels"
    if options.px_per_mm is not None and name == "minimum_area_mm2":
        least, unit = least / options.px_per_mm**2, "mm2"
    return (
        f"{name} {getattr(options, name):g} is less than one pixel of the map, which covers "
        f"{least:.3g} {unit} of an image of {pixel.source[0]} x {pixel.source[1]}; give at least "
        "that"
    )
