"""One picture of a whole image from the decoded pictures of its tiles, for people."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from vqad.array_types import Codes
from vqad.images.tiles import Blend, TileGrid

_AT_ONCE: Final = 16  # tiles

Decoded = UInt8[ndarray, "tiles size size 3"]


def stitched(
    grid: TileGrid, codes: Codes, pictures_of: Callable[[Codes], Decoded], *, most_px: int
) -> UInt8[ndarray, "height width 3"]:
    """Decode the codes of all tiles, and blend the pictures; its sides have at most ``most_px``."""
    longest_px = max(grid.height_px, grid.width_px)
    places = max(1, most_px * grid.tiling.tile_px // longest_px)
    channels = [Blend(grid, places=places) for _ in range(3)]
    for first in range(0, len(codes), _AT_ONCE):
        for at, picture in enumerate(pictures_of(codes[first : first + _AT_ONCE]), first):
            small = cv2.resize(picture, (places, places), interpolation=cv2.INTER_AREA)
            for blend, channel in zip(channels, np.moveaxis(small, -1, 0), strict=True):
                blend.add(at, channel.astype(np.float32))
    whole = np.dstack([blend.whole for blend in channels])
    return whole.round().clip(0, 255).astype(np.uint8)
