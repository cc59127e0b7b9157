"""The region of interest of a category: the part of its images that counts.

A mask covers the whole source image. `counted` gives it at the size of any map. A pixel of the map
counts if all source pixels that it is made of do, so that nothing outside can change it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool
from numpy import ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionOfInterest:
    """A mask of the source images of a category."""

    mask: Bool[ndarray, "mask_height mask_width"]  # True inside; it covers the whole image
    source_px: tuple[int, int]  # width and height of the images that it was made for

    def __post_init__(self) -> None:
        """Refuse a mask with which nothing could be found."""
        if not self.mask.any():
            raise ValueError("the region of interest has no pixel")

    def counted(self, shape: tuple[int, int]) -> Bool[ndarray, "height width"]:
        """The pixels of a map of this height and width that count. Raises ValueError if none do."""
        inside = whole_pixels(self.mask, shape)
        if not inside.any():
            raise ValueError(
                f"the region of interest has no whole pixel of a map of {shape[1]} x {shape[0]}; "
                "draw it larger"
            )
        return inside


def whole_pixels(
    mask: Bool[ndarray, "mask_height mask_width"], shape: tuple[int, int]
) -> Bool[ndarray, "height width"]:
    """The pixels of a map of this height and width that are made of pixels inside alone."""
    # Of zeros, any weighted sum is exactly 0, and each source pixel outside makes it larger.
    found: ndarray = resized((~mask).astype(np.float32), shape) == 0
    return found


def of_same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """True if two images, given by width and height, have one aspect ratio, up to a pixel."""
    smaller, larger = sorted((one, other))
    return abs(larger[0] * smaller[1] / smaller[0] - larger[1]) <= larger[0] / smaller[0]


def resized(pixels: ndarray, shape: tuple[int, int]) -> ndarray:
    """Pixels at another height and width, each side on its own.

    Shrunk first, then enlarged: INTER_AREA would skip pixels if the other side is enlarged.
    """
    height, width = shape
    inner = (min(pixels.shape[1], width), min(pixels.shape[0], height))
    shrunk = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
