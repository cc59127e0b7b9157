"""Good images that look wrong: unlike the rest, blurred, or of another shape.

Nothing here is certain, so nothing is left out: a person looks at what is named. The bounds are so
wide that none of the good images of seven photographed products is named (2026-11-26).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Integer
from numpy import ndarray

from vqad.images.appearance import appearance
from vqad.images.tensors import to_images, to_tensor

Pixels = Integer[ndarray, "num height width 3"]
Small = Float32[ndarray, "_ values"]

FEWEST: Final = 8  # a guess; among fewer, none is unlike the rest
_SIDE_PX: Final = 16  # of the pictures that are compared
_NEIGHBOURS: Final = 3
_FAR: Final = 3.0  # times the usual distance to the neighbours
_FAR_DEVIATIONS: Final = 5.0  # robust standard deviations above the median of log distances
_BLURRED: Final = 0.5  # times the usual sharpness
_BLURRED_DEVIATIONS: Final = 6.0  # robust standard deviations below the median of log sharpness
_ASPECT: Final = 1.1  # a ratio of width to height that differs by more is another shape
_MOST_ODD: Final = 0.1  # share; more than that, the images differ in general
_SMALLEST: Final = 1e-3  # of what has a logarithm
_CHUNK: Final = 32  # images whose sharpness is measured at once


def small_pictures(pixels: Pixels) -> Small:
    """Every image at 16 x 16 pixels, in grey levels, as a row."""
    side = min(_SIDE_PX, pixels.shape[1])
    step = 257 if pixels.dtype == np.uint16 else 1
    found = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pixels]
    return np.stack(found).reshape(len(found), -1).astype(np.float32) / np.float32(step)


def far_from_the_rest(small: Small) -> dict[int, str]:
    """Reasons by position: the distance to the nearest others, in multiples of the usual one."""
    if len(small) < FEWEST:
        return {}
    logs = np.log(np.maximum(_neighbour_distance(small, small, skip_itself=True), _SMALLEST))
    middle, deviation = _middle_and_deviation(logs)
    bound = middle + max(np.log(_FAR), _FAR_DEVIATIONS * deviation)
    return {
        at: f"{np.exp(one - middle):.1f} times as far from its nearest others as usual"
        for at, one in enumerate(logs.tolist())
        if one > bound
    }


def blurred(pixels: Pixels) -> dict[int, str]:
    """Reasons by position: the sharpness, in multiples of the usual one."""
    if len(pixels) < FEWEST:
        return {}
    found = np.concatenate(
        [
            appearance(to_images(to_tensor(pixels[at : at + _CHUNK]))).sharpness
            for at in range(0, len(pixels), _CHUNK)
        ]
    )
    logs = np.log(np.maximum(found, _SMALLEST))
    middle, deviation = _middle_and_deviation(logs)
    bound = middle - max(-np.log(_BLURRED), _BLURRED_DEVIATIONS * deviation)
    return {
        at: f"{np.exp(one - middle):.2f} times as sharp as usual: out of focus?"
        for at, one in enumerate(logs.tolist())
        if one < bound
    }


def _middle_and_deviation(values: Float32[ndarray, " num"]) -> tuple[float, float]:
    """The median, and the standard deviation as a few odd values do not change it."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def of_other_shape(sizes_px: Sequence[tuple[int, int]]) -> dict[int, str]:
    """Reasons by position: another ratio of width to height than nearly all others.

    None where the images differ in shape in general, which ``shapes`` describes.
    """
    ratios = np.array([width / height for width, height in sizes_px])
    odd = _is_other_shape(ratios)
    if odd.mean() > _MOST_ODD:
        return {}
    return {
        at: "{} x {} pixels, another shape than the rest".format(*sizes_px[at])
        for at in np.flatnonzero(odd).tolist()
    }


def shapes(sizes_px: Sequence[tuple[int, int]]) -> str:
    """A sentence about the sizes of the images, for people."""
    ratios = np.array([width / height for width, height in sizes_px])
    distinct = sorted(set(sizes_px))
    if len(distinct) == 1:
        return "{} x {} pixels".format(*distinct[0])
    text = f"{len(distinct)} sizes, {_size(distinct[0])} to {_size(distinct[-1])} pixels"
    if _is_other_shape(ratios).mean() > _MOST_ODD:
        text += (
            f", width to height from {ratios.min():.2f} to {ratios.max():.2f}: each is squashed to "
            "a square, so that one defect has many shapes"
        )
    return text


def like_another(small: Mapping[str, Small]) -> dict[str, dict[int, str]]:
    """Reasons by category and position: an image that is nearer to those of another category.

    It has to be unlike its own category as well: two categories may be of one product.
    """
    found: dict[str, dict[int, str]] = {}
    for name, own in small.items():
        unlike = far_from_the_rest(own)
        for at in unlike:
            nearest = _nearest_category(own[at : at + 1], name, small)
            if nearest:
                found.setdefault(name, {})[at] = f"looks like an image of {nearest}"
    return found


def same_looking(small: Mapping[str, Small]) -> list[tuple[str, str]]:
    """Pairs of categories whose images can't be told from each other by their small pictures."""
    names = sorted(name for name, each in small.items() if len(each) >= FEWEST)
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    return [pair for pair in pairs if _look_the_same(small[pair[0]], small[pair[1]])]


def _look_the_same(one: Small, other: Small) -> bool:
    """True if the images of both are as near to those of the other as to their own."""
    for own, theirs in ((one, other), (other, one)):
        within = _neighbour_distance(own, own, skip_itself=True)
        between = _neighbour_distance(own, theirs, skip_itself=False)
        if np.median(between) > 1.25 * np.median(within):  # a guess
            return False
    return True


def _nearest_category(row: Small, own: str, small: Mapping[str, Small]) -> str:
    distance = float(_neighbour_distance(row, small[own], skip_itself=True)[0])
    nearest = ""
    for name, others in small.items():
        if name != own and len(others) >= FEWEST:
            found = float(_neighbour_distance(row, others, skip_itself=False)[0])
            if found < distance:
                nearest, distance = name, found
    return nearest


def _neighbour_distance(
    rows: Small, others: Small, *, skip_itself: bool
) -> Float32[ndarray, " num"]:
    """Distance of each row to the third nearest of the others."""
    rank = min(_NEIGHBOURS, len(others) - 1) - (0 if skip_itself else 1)
    squares = (
        (rows**2).sum(1)[:, None].astype(np.float64) + (others**2).sum(1) - 2 * rows @ others.T
    )
    return np.sqrt(np.maximum(np.partition(squares, rank, axis=1)[:, rank], 0)).astype(np.float32)


def _is_other_shape(ratios: ndarray) -> Bool[ndarray, " num"]:
    away = np.abs(np.log(ratios / np.median(ratios)))
    return away > np.log(_ASPECT)


def _size(size_px: tuple[int, int]) -> str:
    return "{} x {}".format(*size_px)
