"""The region of interest of a category, checked against its images before anything starts."""

import hashlib

import cv2
import numpy as np

from vqad.images import decoding, headers, region_files
from vqad.images.placement import Size
from vqad.images.region_files import RegionError
from vqad.images.roi import RegionOfInterest
from vqad.images.tile_regions import looked_at
from vqad.storage import errors, files
from vqad.training.good_images import good_images
from vqad.training.minimum_area import map_pixel, map_shape, minimum_area
from vqad.training.options import TrainOptions
from vqad.training.presets import preset_of

_SMALL_PX = 8  # side of an image that is decoded for its size alone


def checked(data: str, options: TrainOptions) -> RegionOfInterest | None:
    """The region of a category, None where it has none.

    Raises RegionError where the region is not of the size of the category's first good image, or
    is too small for a defect.
    """
    region = region_files.read_region(options.roi, options.ignore)
    if region is None:
        return None
    image, size = _first_size(data, options)
    if size is not None:
        _check_size(region, options, image, size)
        _check_area(region, options, size)
    return region


def digest(region: RegionOfInterest | None) -> str:
    """What tells one region from another; "" of none."""
    return hashlib.sha256(region_files.encoded(region)).hexdigest() if region else ""


def _first_size(data: str, options: TrainOptions) -> tuple[str, Size | None]:
    """The first good image that can be read, and its width and height."""
    for each in good_images(data, options.category, options.good_pattern):
        try:
            content = files.read_bytes(each.image, max_bytes=decoding.MAX_BYTES)
            return each.image, decoding.decode(content, size_px=_SMALL_PX).source_px
        except (errors.FetchError, headers.ImageError):
            continue  # the training says which images can't be read
    return "", None


def _check_size(region: RegionOfInterest, options: TrainOptions, image: str, size: Size) -> None:
    if region.source_px == size:
        return
    width, height = region.source_px
    raise RegionError(
        f"the region of interest of {options.category}, {_files(options)}, is of images of {width} "
        f"x {height} pixels, but {image} has {size[0]} x {size[1]}; draw it on one of the "
        "category's images"
    )


def _check_area(region: RegionOfInterest, options: TrainOptions, size: Size) -> None:
    sizes = preset_of(options.preset).vqvae
    try:
        inside = region.counted(map_shape(options, sizes.image_size_px)(size))
        _check_tiles(region, options, size)
    except ValueError as error:
        raise RegionError(f"{_files(options)}: {error}") from error
    _, _, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    largest = int(stats[1:, cv2.CC_STAT_AREA].max())
    pixel = map_pixel([size], map_shape(options, sizes.image_size_px))
    wanted = minimum_area(options, pixel, default_px=sizes.cell_area_px).area_px
    if largest < wanted:
        raise RegionError(
            f"the region of interest of {options.category}, {_files(options)}, has at most "
            f"{largest} pixels of the map in one piece, fewer than the minimum area of a defect, "
            f"{wanted}; draw it larger, or give a smaller minimum area"
        )


def _check_tiles(region: RegionOfInterest, options: TrainOptions, size: Size) -> None:
    if options.tiling is not None:
        size_px = preset_of(options.preset).vqvae.image_size_px
        grid = looked_at(options.tiling.grid(size[1], size[0]), region, size_px=size_px)
        region.counted(grid.shape(grid.places_of_map(size_px)))


def _files(options: TrainOptions) -> str:
    return " without ".join(each for each in (options.roi, options.ignore) if each)
