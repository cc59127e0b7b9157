"""Find copies of images: equal pixels, or nearly equal ones, as after another compression.

A copy of a training image among the held-out images lowers the threshold, because its score is that
of an image that was learnt. So copies must stay on one side of the held-out split.
"""

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

_SMALL_PX: Final = 16  # side of the pictures that are compared first
_CHUNK: Final = 1000  # images that are compared with all others at once
# Measured on the good images of seven products (2026-11-26). Compressed to JPEG with quality 80, an
# image differs from itself by up to 0.7 grey levels at 16 pixels, and by up to 0.22 of the usual
# distance of two images at full size. Different photographs differ by 1.4 grey levels or more.
_NEAR_LEVELS: Final = 1.0
_NEAR_SHARE_SMALL: Final = 0.2  # of the usual distance of two images
_NEAR_SHARE: Final = 0.25


def copies(pixels: np.ndarray) -> list[list[int]]:
    """Groups of positions of images that are copies of each other, each sorted.

    ``pixels`` is (num, size, size, 3), uint8 or uint16.
    """
    small = np.stack([_small(each) for each in pixels])
    near = min(_NEAR_LEVELS, _NEAR_SHARE_SMALL * _usual(small))
    candidates = list(_close_pairs(small, near))
    if not candidates:
        return []
    near_at_full_size = _NEAR_SHARE * _usual(pixels)
    pairs = [
        (one, other)
        for one, other in candidates
        if _distance(pixels[one], pixels[other]) <= near_at_full_size
    ]
    return _joined(pairs)


def _small(picture: np.ndarray) -> np.ndarray:
    side = min(_SMALL_PX, len(picture))
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference, in grey levels of 8 bits."""
    step = 257 if one.dtype == np.uint16 else 1
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2))) / step


def _usual(pictures: np.ndarray, most_pairs: int = 200) -> float:
    """The median distance of two images, from pairs that are far apart in the listing."""
    num = len(pictures)
    firsts = np.unique(np.linspace(0, num - 1, most_pairs).astype(int))
    others = (firsts + max(1, num // 2)) % num
    pairs = zip(firsts, others, strict=True)
    return float(np.median([_distance(pictures[one], pictures[other]) for one, other in pairs]))


def _close_pairs(small: np.ndarray, near: float) -> Iterator[tuple[int, int]]:
    rows = small.reshape(len(small), -1).astype(np.float64)
    rows -= rows.mean(0)
    squares = (rows**2).sum(1)
    step = 257 if small.dtype == np.uint16 else 1
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab, for many images at once; its rounding error needs the slack.
    bound = (near * step) ** 2 * rows.shape[1] + 1e-9 * squares.max()
    for at in range(0, len(rows), _CHUNK):
        chunk = slice(at, at + _CHUNK)
        squared = squares[chunk, None] + squares[None] - 2 * rows[chunk] @ rows.T
        for one, other in np.argwhere(squared <= bound).tolist():
            if at + one < other and _distance(small[at + one], small[other]) <= near:
                yield at + one, other


def _joined(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Groups of everything that pairs connect."""
    groups: dict[int, set[int]] = {}
    for pair in pairs:
        joined = set(pair).union(*(groups.get(each, ()) for each in pair))
        groups.update(dict.fromkeys(joined, joined))
    return sorted({id(group): sorted(group) for group in groups.values()}.values())
