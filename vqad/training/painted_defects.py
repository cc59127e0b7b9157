"""Defects painted onto normal pictures, for a segmenter to learn from.

No real defect is needed. A painted one is a shape (spot, stroke, dots, patch, band) with a filling
(`painted_fillings`), blended in clearly or faintly. A product's own defects are not known when its
detector is fitted, so all kinds occur. The label is what can be seen of a defect, and not its
shape: a filling may happen to equal what it covers. Sizes are shares of the picture's side.
"""

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.random import Generator

from vqad.training.painted_fillings import (
    FILLINGS,
    LINE_FILLINGS,
    Covered,
    log_uniform,
    noise,
    one_of,
)

Picture = Float32[ndarray, "height width 3"]  # RGB in [0, 1]
Share = Float32[ndarray, "height width"]  # of each pixel, in [0, 1]
Shape = Callable[[int, ndarray, Generator], Share]

_NUM_DEFECTS: Final = (1, 1, 1, 1, 1, 2, 2, 2, 3, 3)  # one of these
_SUBPIXEL_BITS: Final = 4
_BLURS: Final = (0.7, 1.5, 4.0)  # of edges; px of 256
_SEEN_FROM, _CLEAR_FROM = 0.01, 0.03  # change of a channel of [0, 1]; 2.5 and 8 grey levels
# An object on an even ground: how far its border may differ from one colour, how far the object
# has to, and what share of the picture it may cover.
_EVEN: Final = 0.055
_DIFFERENT: Final = 0.085
_COVERED: Final = (0.04, 0.93)
_ANYWHERE: Final = 0.12  # share of the defects that do not look for the object
_GRID: Final = 64


def paint(picture: Picture, other: Picture, rng: Generator, *, grey: bool) -> tuple[Picture, Share]:
    """Paint one to three defects, and return how visible a change of each pixel is.

    ``other`` is a normal picture that defects may be taken from. ``grey`` keeps them grey.
    """
    painted = picture.copy()
    for _ in range(int(rng.choice(_NUM_DEFECTS))):
        _paint_one(painted, other, rng, grey=grey)
    change = np.abs(painted - picture).max(2)
    change = cv2.GaussianBlur(change, (0, 0), max(0.5, len(picture) / 200))
    # A rough region is one region: what lies between its grains belongs to it.
    reach = np.ones((max(3, len(picture) * 9 // 256),) * 2, np.uint8)
    change = cv2.morphologyEx(change, cv2.MORPH_CLOSE, reach)
    return painted, ((change - _SEEN_FROM) / (_CLEAR_FROM - _SEEN_FROM)).clip(0, 1)


def _paint_one(painted: Picture, other: Picture, rng: Generator, *, grey: bool) -> None:
    side = len(painted)
    shape = one_of(SHAPES, rng)
    share = shape(side, _somewhere(painted, rng), rng)
    if rng.random() < 0.75:
        share = cv2.GaussianBlur(share, (0, 0), max(0.4, side / 256 * float(rng.choice(_BLURS))))
    rows, cols = np.flatnonzero(share.max(1)), np.flatnonzero(share.max(0))
    if not len(rows):
        return  # the shape lies outside
    margin = max(2, side // 16)
    top, left = max(0, rows[0] - margin), max(0, cols[0] - margin)
    box = slice(top, rows[-1] + 1 + margin), slice(left, cols[-1] + 1 + margin)
    strength = rng.uniform(0.5, 1) if rng.random() < 0.7 else rng.uniform(0.2, 0.5)
    covered = Covered(
        part=painted[box],
        share=share[box],
        source=other if rng.random() < 0.6 else painted,
        corner=(int(left), int(top)),
        grey=grey,
    )
    filled = one_of(LINE_FILLINGS if shape is _stroke else FILLINGS, rng)(covered, rng)
    blend = share[box][..., None] * np.float32(strength)
    painted[box] = (covered.part + blend * (filled - covered.part)).clip(0, 1)


def _somewhere(picture: Picture, rng: Generator) -> ndarray:
    """A point (x, y) in pixels, mostly on the object if there is one on an even ground."""
    side, found = len(picture), object_of(picture)
    if found is None or rng.random() < _ANYWHERE:
        return rng.uniform(0.04 * side, 0.96 * side, 2)
    places = np.flatnonzero(found)
    row, col = divmod(int(places[rng.integers(len(places))]), _GRID)
    return (np.array([col, row]) + rng.random(2)) * side / _GRID


def object_of(picture: Picture) -> ndarray | None:
    """The cells of an object on an even ground, or None if there is no such thing."""
    small = cv2.resize(picture, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    ground = np.median(border, 0)
    if np.abs(border - ground).max(1).mean() > _EVEN:
        return None
    found = (np.abs(small - ground).max(2) > _DIFFERENT).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return found if _COVERED[0] < found.mean() < _COVERED[1] else None


def _turned(points: ndarray, turn: float) -> ndarray:
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _drawn(side: int, draw: Callable[..., Any], points: ndarray, *rest: Any) -> Share:
    canvas = np.zeros((side, side), np.uint8)
    fixed = np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)
    draw(canvas, [fixed], *rest, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas.astype(np.float32) / 255


def _spot(side: int, centre: ndarray, rng: Generator) -> Share:
    radius, stretch = side * log_uniform(rng, 0.015, 0.2), log_uniform(rng, 0.6, 1.7)
    steps = np.arange(side, dtype=np.float32)
    x, y = np.meshgrid(*(steps - np.float32(at) for at in centre))
    turn = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along = (x * cos + y * sin) / np.float32(radius * stretch)
    across = (y * cos - x * sin) / np.float32(radius / stretch)
    ragged = np.float32(rng.uniform(0, 0.6)) * noise((side, side), 1.2 * side / radius, rng)
    return (along * along + across * across < 1 + ragged).astype(np.float32)


def _stroke(side: int, centre: ndarray, rng: Generator) -> Share:
    num = int(rng.integers(2, 24))
    bends = rng.normal(0, rng.choice([0.03, 0.2, 0.6]), num)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bends)
    step = side * log_uniform(rng, 0.06, 0.9) / num
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * step, 0)
    width = max(1, round(side * log_uniform(rng, 0.003, 0.03)))
    return _drawn(side, cv2.polylines, points + centre - points[num // 2], False, 255, width)


def _dots(side: int, centre: ndarray, rng: Generator) -> Share:
    num = int(rng.integers(1, 12))
    centres = centre + rng.normal(0, side * log_uniform(rng, 0.01, 0.12), (num, 2))
    canvas = np.zeros((side, side), np.uint8)
    for x, y in np.round(centres * 2**_SUBPIXEL_BITS).astype(int):
        radius = max(0.5, side * log_uniform(rng, 0.004, 0.02))
        fixed = round(radius * 2**_SUBPIXEL_BITS)
        cv2.circle(canvas, (int(x), int(y)), fixed, 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas.astype(np.float32) / 255


def _patch(side: int, centre: ndarray, rng: Generator) -> Share:
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
    radius, stretch = side * log_uniform(rng, 0.02, 0.25), log_uniform(rng, 0.6, 1.6)
    corners = np.stack([np.cos(angles) * stretch, np.sin(angles) / stretch], 1) * radius
    return _drawn(side, cv2.fillPoly, _turned(corners, rng.uniform(0, np.pi)) + centre, 255)


def _band(side: int, centre: ndarray, rng: Generator) -> Share:
    steps, angle = np.arange(side, dtype=np.float32), rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(*(steps - np.float32(at) for at in centre))
    away = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    away += np.float32(0.04 * side) * noise((side, side), 6.0, rng)
    return ((away > 0) & (away < side * log_uniform(rng, 0.05, 1.0))).astype(np.float32)


# With how often each is drawn: a guess.
SHAPES: Final[tuple[tuple[Shape, float], ...]] = (
    (_spot, 0.36),
    (_stroke, 0.3),
    (_dots, 0.12),
    (_patch, 0.18),
    (_band, 0.04),
)
