"""Regions of interest in files: a mask picture, or polygons in JSON.

    {"width_px": 900, "height_px": 600, "polygons": [[[10, 20], [400, 20], [400, 300]]]}

Width and height are those of the category's images, and points are x and y in their pixels. What
is inside counts; of regions to ignore, what is outside does. A detector keeps both as one picture,
which is no larger than it needs to be.
"""

import json
from dataclasses import dataclass
from posixpath import dirname
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from pydantic import TypeAdapter, ValidationError

from vqad.images import decoding, headers, mask_files
from vqad.images.roi import RegionOfInterest
from vqad.storage import errors, files, uris
from vqad.storage.errors import VqadError

LARGEST_BYTES: Final = 8 * 2**20  # of the picture that a detector keeps
_LARGEST_SIDE_PX: Final = 4096  # of that picture
_LARGEST_JSON_BYTES: Final = 16 * 2**20
_MOST_SHOWN: Final = 5  # names in an error text
_EXAMPLE: Final = '{"width_px": 900, "height_px": 600, "polygons": [[[1, 2], [90, 2], [90, 60]]]}'

Mask = Bool[ndarray, "height width"]
Size = tuple[int, int]  # width and height


class RegionError(VqadError, ValueError):
    """A region of interest that can't be used."""


@dataclass(frozen=True, kw_only=True)
class _Polygons:
    width_px: int
    height_px: int
    polygons: list[list[tuple[float, float]]]


def read_region(roi: str | None, ignore: str | None) -> RegionOfInterest | None:
    """The part of the images that counts: inside of the one file and outside of the other.

    None without any file. Raises RegionError.
    """
    if roi is None and ignore is None:
        return None
    inside = _read(roi, "roi") if roi else None
    outside = _read(ignore, "ignore") if ignore else None
    if inside and outside and inside[1] != outside[1]:
        raise RegionError(
            f"roi {roi} is of images of {_of(inside[1])} pixels, ignore {ignore} of "
            f"{_of(outside[1])}; both must be of the size of the category's images"
        )
    mask, size = inside or (np.ones_like(outside[0]), outside[1])  # type: ignore[index]
    if outside:
        mask = mask & ~outside[0]
    if not mask.any():
        given = " and ".join(f"{name} {uri}" for name, uri in _named(roi, ignore) if uri)
        raise RegionError(f"{given} leave no pixel that counts; white is inside, black outside")
    return _reduced(RegionOfInterest(mask=mask, source_px=size))


def _named(roi: str | None, ignore: str | None) -> list[tuple[str, str | None]]:
    return [("roi", roi), ("ignore", ignore)]


def _of(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _reduced(region: RegionOfInterest) -> RegionOfInterest:
    height, width = region.mask.shape
    if max(height, width) <= _LARGEST_SIDE_PX:
        return region
    share = _LARGEST_SIDE_PX / max(height, width)
    shape = max(1, round(height * share)), max(1, round(width * share))
    return RegionOfInterest(mask=region.counted(shape), source_px=region.source_px)


def _read(uri: str, name: str) -> tuple[Mask, Size]:
    """A mask, and the size of the images that it is of."""
    is_json = uri.lower().endswith(".json")
    try:
        largest = _LARGEST_JSON_BYTES if is_json else decoding.MAX_BYTES
        data = files.read_bytes(uri, max_bytes=largest)
    except errors.FetchError as error:
        more = _others(uri) if error.error == "missing" else ""
        raise RegionError(f"{name} {uri}: {error}{more}") from error
    mask = _drawn(data, f"{name} {uri}") if is_json else _pictured(data, f"{name} {uri}")
    return mask, (mask.shape[1], mask.shape[0])


def _others(uri: str) -> str:
    """The files beside one that is missing, for an error text."""
    folder = dirname(uri)
    try:
        names = [uris.decoded(each) for each in files.list_names(folder)]
    except VqadError:
        return f"; there is no folder {folder} either"
    shown = ", ".join(sorted(names)[:_MOST_SHOWN]) + ", ..." * (len(names) > _MOST_SHOWN)
    return f"; {folder} has {shown or 'no files'}"


def _pictured(data: bytes, what: str) -> Mask:
    try:
        headers.probe(data, max_pixels=decoding.MAX_PIXELS)
        return mask_files.mask_of(data, what)
    except (headers.ImageError, ValueError) as error:
        raise RegionError(
            f"{what} is neither a picture nor a .json file with polygons: {error}"
        ) from error


def _drawn(data: bytes, what: str) -> Mask:
    try:
        found = TypeAdapter(_Polygons).validate_python(json.loads(data))
    except (ValidationError, ValueError) as error:
        raise RegionError(f"{what} is not of the form {_EXAMPLE}") from error
    width, height = found.width_px, found.height_px
    if min(width, height) < 1 or width * height > decoding.MAX_PIXELS:
        raise RegionError(
            f"{what} is of images of {width} x {height} pixels; from 1 to {decoding.MAX_PIXELS} "
            "pixels are allowed"
        )
    mask = np.zeros((height, width), np.uint8)
    for number, polygon in enumerate(found.polygons, 1):
        points = np.array(polygon, np.float64).reshape(-1, 2)
        largest = np.array([width, height])
        if len(points) < 3 or not np.isfinite(points).all():
            raise RegionError(f"{what}: polygon {number} needs at least 3 points, each x and y")
        if (points < 0).any() or (points > largest).any():
            raise RegionError(
                f"{what}: polygon {number} has points outside of the image of {width} x {height} "
                "pixels; points are x and y in pixels of the image"
            )
        cv2.fillPoly(mask, [np.minimum(points.round(), largest - 1).astype(np.int32)], 1)
    return mask.astype(bool)


def encoded(region: RegionOfInterest) -> bytes:
    """The picture that a detector keeps, one bit a pixel."""
    picture = region.mask.astype(np.uint8) * np.uint8(255)
    _, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return data.tobytes()


def decoded(data: bytes, source_px: Size, uri: str) -> RegionOfInterest:
    """The region of a picture that a detector has kept. Raises RegionError."""
    try:
        headers.probe(data, max_pixels=_LARGEST_SIDE_PX**2)
        return RegionOfInterest(mask=mask_files.mask_of(data, uri), source_px=source_px)
    except (headers.ImageError, ValueError) as error:
        raise RegionError(f"{uri}: {error}; restore it, or train again") from error
