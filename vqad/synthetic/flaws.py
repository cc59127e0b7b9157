"""Flaws of drawn products.

A flaw takes a scene and returns the picture of it with damage. The mask is found afterwards, by
comparing the two pictures. Sizes are shares of the picture's side. Most flaws are easy to see, and
some are drawn faint.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from vqad.synthetic.scenes import Canvas, Field, Rgb, Scene, over, softened, tint

Flaw = Callable[[Scene, Generator], Canvas]
Point = tuple[int, int]
_SUBPIXEL_BITS = 4


def _plain(like: Field, colour: Rgb) -> Canvas:
    return tint(colour, np.ones_like(like))


def _strength(rng: Generator) -> float:
    """Draw the visibility of a flaw: mostly near 1, sometimes down to 0.4."""
    return float(1 - 0.6 * rng.uniform() ** 2.5)


def somewhere(share: Field, rng: Generator) -> Point:
    """Pick a covered point (x, y) in pixels, away from the border if possible."""
    margin = len(share) // 12
    inner = share.copy()
    inner[:margin], inner[-margin:], inner[:, :margin], inner[:, -margin:] = 0, 0, 0, 0
    where = np.flatnonzero(inner > 0.5)
    if not len(where):
        where = np.flatnonzero(share >= share.max())
    row, column = divmod(int(where[rng.integers(len(where))]), share.shape[1])
    return column, row


def _on_edge(body: Field, rng: Generator) -> Point:
    """Pick a point on the outline of the body."""
    solid = (body > 0.5).astype(np.uint8)
    outline = solid - cv2.erode(solid, np.ones((3, 3), np.uint8))
    return somewhere(outline.astype(np.float32), rng)


def _filled(like: Field, points: np.ndarray) -> Field:
    """Fill a polygon of points (n, 2) in pixels; returns the share of each pixel that it covers."""
    mask = np.zeros(like.shape, np.uint8)
    fixed = np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def _stroke(like: Field, points: np.ndarray, width: float) -> Field:
    """Draw a line through points (n, 2) in pixels, its width a share of the side."""
    mask = np.zeros(like.shape, np.uint8)
    fixed = np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)
    thick = max(round(width * len(like)), 2)
    cv2.polylines(mask, [fixed], False, 255, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def blob(like: Field, centre: Point, radius: float, rng: Generator, ragged: float) -> Field:
    """Draw an uneven, somewhat lengthened spot."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = sum(
        rng.normal() * np.cos(number * angle + rng.uniform(0, 6.3)) / number
        for number in range(2, 9)
    )
    reach = radius * len(like) * np.clip(1 + ragged * waves, 0.4, 1.8)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.35)
    along, across = reach * np.cos(angle) * stretch, reach * np.sin(angle) / stretch
    x = along * np.cos(turn) - across * np.sin(turn) + centre[0]
    y = along * np.sin(turn) + across * np.cos(turn) + centre[1]
    return _filled(like, np.stack([x, y], axis=1))


def _path(
    middle: Point, length_px: float, rng: Generator, *, bend: float, jag: float
) -> np.ndarray:
    """Draw a random path through its middle: ``bend`` turns it slowly, ``jag`` at each step."""
    steps = 24
    drift = np.cumsum(rng.normal(0, bend, steps)) + rng.normal(0, jag, steps)
    heading = rng.uniform(0, 2 * np.pi) + drift
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length_px / steps)
    points = np.cumsum(moves, axis=0)
    return points - points[steps // 2] + np.array(middle)


def _shifted(field: np.ndarray, right_px: float, down_px: float) -> np.ndarray:
    move = np.array([[1, 0, right_px], [0, 1, down_px]], np.float32)
    return cv2.warpAffine(field, move, field.shape[1::-1])


def scratch(scene: Scene, rng: Generator) -> Canvas:
    """Scratch a line with a shadow: dark on a bright product, bright on a dark one."""
    side = len(scene.body)
    path = _path(somewhere(scene.body, rng), rng.uniform(0.35, 0.7) * side, rng, bend=0.05, jag=0.0)
    line = _stroke(scene.body, path, rng.uniform(0.022, 0.036)) * scene.body * _strength(rng)
    image = over(scene.image, _shifted(line, side / 90, side / 90) * scene.body, scene.image * 0.35)
    grey = 40 if scene.image[:, scene.body > 0.5].mean() > 128 else 160
    return over(image, line, 0.35 * scene.image + _plain(line, (grey, grey, grey - 2)))


def crack(scene: Scene, rng: Generator) -> Canvas:
    """Draw a jagged dark line with a branch."""
    side, start = len(scene.body), somewhere(scene.body, rng)
    trunk = _path(start, rng.uniform(0.45, 0.8) * side, rng, bend=0.12, jag=0.5)
    branch = _path(start, rng.uniform(0.2, 0.35) * side, rng, bend=0.12, jag=0.5)
    line = _stroke(scene.body, trunk, rng.uniform(0.014, 0.024))
    line = np.maximum(line, _stroke(scene.body, branch, 0.012)) * scene.body
    lip = _shifted(line, side / 100, side / 100) * scene.body
    image = over(scene.image, 0.5 * lip, scene.image * 0.5 + 120)
    return over(image, line * _strength(rng), scene.image * 0.15)


def thread(scene: Scene, rng: Generator) -> Canvas:
    """Put a stray fibre with its shadow on the product; it may reach over the edge."""
    side = len(scene.body)
    path = _path(somewhere(scene.body, rng), rng.uniform(0.5, 1.0) * side, rng, bend=0.22, jag=0.0)
    fibre = _stroke(scene.body, path, rng.uniform(0.018, 0.030))
    shadow = softened(_shifted(fibre, side / 60, side / 60), side / 50)
    colours = ((228, 222, 210), (198, 58, 52), (40, 38, 40), (222, 190, 90))
    colour = colours[rng.integers(len(colours))]
    image = scene.image * (1 - 0.45 * shadow)
    round_fibre = 0.65 + 0.35 * softened(fibre, side / 80)
    return over(image, fibre * (0.5 + 0.5 * _strength(rng)), tint(colour, round_fibre))


def stain(scene: Scene, rng: Generator) -> Canvas:
    """Stain the product with oil, ink, rust or paint, which tints the colours below it."""
    spot = blob(scene.body, somewhere(scene.body, rng), rng.uniform(0.07, 0.15), rng, 0.18)
    spot = softened(spot, len(spot) / 40) * scene.body * _strength(rng)
    dyes = ((0.42, 0.34, 0.26), (0.35, 0.42, 0.80), (0.85, 0.40, 0.22), (0.30, 0.45, 0.32))
    dye = np.array(dyes[rng.integers(len(dyes))], np.float32)[:, None, None]
    # A dye would not be visible on black, so a stain also adds some light.
    return over(scene.image, spot, scene.image * dye + 45 * dye)


def hole(scene: Scene, rng: Generator) -> Canvas:
    """Tear a ragged dark hole with one bright edge."""
    centre = somewhere(scene.body, rng)
    radius = rng.uniform(0.055, 0.095)
    lip = blob(scene.body, centre, radius, rng, 0.22)
    side = len(lip)
    pit = lip * _shifted(lip, -side / 64, -side / 64)
    image = over(scene.image, lip * scene.body, scene.image * 0.7 + 75)
    return over(image, softened(pit, side / 80) * scene.body, _plain(lip, (16, 14, 14)))


def dent(scene: Scene, rng: Generator) -> Canvas:
    """Press a bump that distorts the product's lines and its shading."""
    side = len(scene.body)
    x, y = somewhere(scene.body, rng)
    radius = rng.uniform(0.10, 0.17) * side
    steps = np.arange(side, dtype=np.float32)
    right, down = (steps - np.float32(x))[None, :], (steps - np.float32(y))[:, None]
    bump = np.exp(-(right * right + down * down) / np.float32(radius * radius))
    turn, pull = rng.uniform(0, 2 * np.pi), 0.55 * radius * _strength(rng)
    across = steps[None, :] + bump * np.float32(pull * np.cos(turn))
    along = steps[:, None] + bump * np.float32(pull * np.sin(turn))
    mode, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    moved = np.stack(
        [cv2.remap(plane, across, along, mode, borderMode=border) for plane in scene.image]
    )
    slope = bump * (right + down) / np.float32(radius)
    return moved * (1 - 0.55 * slope * scene.body)


def chip(scene: Scene, rng: Generator) -> Canvas:
    """Break a piece off the edge, so that the background is visible."""
    bite = blob(scene.body, _on_edge(scene.body, rng), rng.uniform(0.08, 0.14), rng, 0.2)
    side = len(bite)
    fresh = np.clip(softened(bite, side / 20) * 2, 0, 1) * scene.body
    image = over(scene.image, 0.5 * fresh, scene.image * 0.6)
    return over(image, bite, scene.background)


def misprint(scene: Scene, rng: Generator) -> Canvas:
    """Double the print, displace it, or wear some of it away."""
    side, manner = len(scene.body), rng.integers(3)
    print_alone = scene.image - scene.bare
    right, down = (float(rng.choice([-1, 1]) * rng.uniform(0.035, 0.07)) * side for _ in range(2))
    ghost = np.stack([_shifted(plane, right, down) for plane in print_alone]) * scene.body
    if manner == 0:
        return scene.image + 0.8 * ghost
    if manner == 1:
        return scene.bare + ghost
    worn = blob(scene.body, somewhere(scene.part, rng), rng.uniform(0.14, 0.22), rng, 0.15)
    return over(scene.image, worn, scene.bare + 0.1 * print_alone)
