"""Copies of normal images with one harmless change each: the lamp, a bright corner, the place.

A camera and its lamps change from week to week by more than the images of one training show. Local
statistics that are fitted on such copies too take these changes for normal, and a threshold that
most copies stay below keeps the rest of them from becoming defects. Each change has its largest
size: copies with smaller ones would say little about that.

Copies of pictures in one pose never become brighter than the camera can show; they are made darker
in place of it. Where all pixels have one value details are lost, and such copies alone had set the
threshold of a drawn screw above nine in ten of its defects. Of other products they are kept: with
them a drawn ampoule and a tile, which are bright, keep their verdict where a lamp is brighter.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float32, Integer
from numpy import ndarray
from numpy.random import Generator

from vqad.images.placement import Placement

Picture = Integer[ndarray, "height width 3"]

# Guesses: changes that a person would not call a defect.
_CHANGE: Final = 0.1  # of all light
_CHANGE_AT_CORNER: Final = 0.2  # of the light in one corner
_CORNER: Final = 1 / 3  # of the side, over which the change of a corner fades
_SHIFT: Final = 3 / 256  # of the side; at least one pixel
_DIRECTIONS: Final = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)]


def harmless_copies(
    pixels: Integer[ndarray, "num side side 3"],
    rng: Generator,
    placements: Sequence[Placement] | None = None,
    *,
    moved: bool = True,
) -> Integer[ndarray, "num side side 3"]:
    """A copy of each image, uint8 or uint16; the changes take turns, as `change_of` says.

    Unless ``moved``, none is shifted: an image that is turned into one pose is moved back as well.

    Only what covers the source images by ``placements`` is changed: padding has no light.
    """
    found = []
    for at, square in enumerate(pixels):
        change = _changes(moved=moved)[change_of(at, moved=moved)]
        its = placements[at] if placements else None
        found.append(
            change(square, rng) if its is None else its.in_square(change(its.cropped(square), rng))
        )
    return np.stack(found) if found else pixels[:0]


def change_of(at: int, *, moved: bool = True) -> int:
    """The position among the changes of that one of the copy at this position."""
    return at % len(_changes(moved=moved))


def _changes(*, moved: bool) -> tuple[Callable[[Picture, Generator], Picture], ...]:
    return CHANGES if moved else IN_ONE_POSE


def in_other_light(picture: Picture, rng: Generator, *, showable: bool = False) -> Picture:
    """Darker or brighter by a tenth; if ``showable``, never too bright to show."""
    return _lit(picture, np.float32(_CHANGE * rng.choice([-1, 1])), showable=showable)


def with_another_corner(picture: Picture, rng: Generator, *, showable: bool = False) -> Picture:
    """Darker or brighter by a fifth in one corner; if ``showable``, never too bright to show."""
    change = np.float32(_CHANGE_AT_CORNER * rng.choice([-1, 1])) * _corner(picture, rng)
    return _lit(picture, change[..., None], showable=showable)


def shifted(picture: Picture, rng: Generator) -> Picture:
    """Shifted along a side or a diagonal, by whole pixels: between them it would lose sharpness."""
    height, width = picture.shape[:2]
    step = max(1, round(_SHIFT * max(height, width)))
    down, right = (step * (1 + each) for each in _DIRECTIONS[rng.integers(len(_DIRECTIONS))])
    around = np.pad(picture, ((step, step), (step, step), (0, 0)), mode="reflect")
    return around[down : down + height, right : right + width]


CHANGES: Final[tuple[Callable[[Picture, Generator], Picture], ...]] = (
    in_other_light,
    with_another_corner,
    shifted,
)
IN_ONE_POSE: Final[tuple[Callable[[Picture, Generator], Picture], ...]] = (
    partial(in_other_light, showable=True),
    partial(with_another_corner, showable=True),
)


def _corner(picture: Picture, rng: Generator) -> Float32[ndarray, "height width"]:
    """1 in one corner, 0 from a third of the longer side on."""
    shape = picture.shape[:2]
    sides = [(np.arange(side, dtype=np.float32) + 0.5) / max(shape) for side in shape]
    down, right = (away if rng.integers(2) else away[::-1] for away in sides)
    return np.clip(1 - np.hypot(down[:, None], right[None]) / np.float32(_CORNER), 0, 1)


def _lit(picture: Picture, change: np.float32 | ndarray, *, showable: bool) -> Picture:
    """The picture with this share more light, or less where more would not be ``showable``."""
    largest = np.iinfo(picture.dtype).max
    found = (picture * (1 + change)).round()
    if showable and np.any((found > largest) & (picture < largest)):
        found = (picture * (1 - np.abs(change))).round()
    return found.clip(0, largest).astype(picture.dtype)
