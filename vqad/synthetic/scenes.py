"""The parts of a drawn picture before it is photographed: a pose, layers and light.

Shapes are signed distances (negative inside) in product coordinates, where the picture spans
[-1, 1] and y points down. Relief is lit from the upper left of the camera, however the product
is turned. Everything is drawn large and shrunk afterwards, which smooths the edges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32
from numpy.random import Generator

# One number per pixel: a coordinate, a distance, a height, a share in [0, 1].
Field = Float32[np.ndarray, "height width"]
# The same for something of another size than the picture.
Sheet = Float32[np.ndarray, "rows cols"]
# RGB in 8-bit grey levels, not yet rounded or clipped. Planes first: twice as fast to paint.
Canvas = Float32[np.ndarray, "3 height width"]
Rgb = tuple[int, int, int]  # grey levels

# Unit vectors towards the light, and half way between it and the camera.
_LIGHT, _HALFWAY = (-0.50, -0.60, 0.62), (-0.28, -0.33, 0.90)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A product before the camera, and the layers below it, which a flaw may uncover."""

    image: Canvas
    background: Canvas  # without the product
    bare: Canvas  # without its part or print
    body: Field  # share of each pixel that the product covers
    part: Field  # share of each pixel that its part or print covers


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Position of a product before the camera; lengths in halves of the picture's side."""

    degrees: float = 0.0
    flipped: bool = False
    right: float = 0.0
    down: float = 0.0
    zoom: float = 1.0


class View:
    """Product coordinates of every pixel of a square picture."""

    def __init__(self, size_px: int, pose: Pose):
        self.pixel = 2 / (size_px * pose.zoom)  # in product coordinates
        steps = (np.arange(size_px, dtype=np.float32) + 0.5) * 2 / size_px - 1
        right, down = np.meshgrid((steps - pose.right) / pose.zoom, (steps - pose.down) / pose.zoom)
        cos, sin = float(np.cos(np.radians(pose.degrees))), float(np.sin(np.radians(pose.degrees)))
        across = cos * right + sin * down
        self.x: Field = -across if pose.flipped else across
        self.y: Field = cos * down - sin * right
        self.camera_angle: Field = cv2.phase(right, down)  # not turned with the product

    def inside(self, distance: Field) -> Field:
        """Return the share of each pixel that a shape covers, in [0, 1]."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def sample(
        self, picture: Sheet, *, x: float = 0.0, y: float = 0.0, reach: float = 1.0
    ) -> Field:
        """Look at a square picture that reaches so far around (x, y) in product coordinates."""
        rows, cols = picture.shape
        across = ((self.x - x) / reach + 1) * (cols / 2) - 0.5
        down = ((self.y - y) / reach + 1) * (rows / 2) - 0.5
        return cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def noise(self, rng: Generator, cols: int, rows: int) -> Field:
        """Draw a smooth random field that turns with the product, unit variance at its knots."""
        return self.sample(rng.standard_normal((rows, cols), dtype=np.float32))

    def blurred(self, field: Field, width: float) -> Field:
        """Smooth a field over about ``width``."""
        return softened(field, width / self.pixel)

    def lit(self, height: Field, gloss: float = 0.0) -> tuple[Field, Field]:
        """Light a relief: the factor on its colour (1 where flat), and reflected grey levels."""
        scale = 1 / (8 * self.pixel)
        right = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=scale)
        down = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=scale)
        length = np.sqrt(right * right + down * down + 1)
        toward = (_LIGHT[2] - _LIGHT[0] * right - _LIGHT[1] * down) / (_LIGHT[2] * length)
        halfway = (_HALFWAY[2] - _HALFWAY[0] * right - _HALFWAY[1] * down) / length
        return np.clip(toward, 0.3, 1.5), 255 * gloss * np.clip(halfway, 0, 1) ** 24


# Draws one good product in one pose.
Design = Callable[[View, Generator], Scene]


def softened(field: Field, width_px: float) -> Field:
    """Blur twice by a box, which is nearly a Gaussian and many times faster."""
    side = 2 * round(width_px / 4) + 1
    return cv2.blur(cv2.blur(field, (side, side)), (side, side))


def tint(colour: Rgb, shade: Field, shine: Field | None = None) -> Canvas:
    """Shade a colour, with white light reflected on top."""
    lit = shade * np.array(colour, np.float32)[:, None, None]
    return lit if shine is None else lit + shine


def over(below: Canvas, share: Field, above: Canvas) -> Canvas:
    """Lay one picture upon another; ``share`` says how much of each pixel it covers."""
    return below + share * (above - below)


def shadowed(ground: Canvas, body: Field, depth: float = 0.35) -> Canvas:
    """Darken the ground by the soft shadow that a body casts, away from the light."""
    reach = max(len(body) // 32, 1)
    moved = np.roll(body, (reach, reach), axis=(0, 1))
    return ground * (1 - depth * softened(moved, 4.0 * reach))


def bevelled(distance: Field, width: float) -> Field:
    """Raise a body whose edge is rounded over ``width``."""
    rise = np.clip(1 + distance / width, 0, 1)
    return width * np.sqrt(1 - rise * rise)


def profile(along: Field, stops: list[float], values: list[float]) -> Field:
    """Draw straight lines between the values at some stops."""
    return np.interp(along, stops, values).astype(np.float32)


def ground(view: View, rng: Generator, colour: Rgb) -> Canvas:
    """Draw what objects lie on: nearly even."""
    return tint(colour, 1 + 0.015 * view.noise(rng, 6, 6))


def placed(
    below: Canvas,
    body: Field,
    top: Canvas,
    *,
    part: Field | None = None,
    bare: Canvas | None = None,
) -> Scene:
    """Put a body on its ground, with its shadow; ``bare`` is its top without the part."""
    shaded = shadowed(below, body)
    image = over(shaded, body, top)
    lacking = image if bare is None else over(shaded, body, bare)
    covered = np.zeros_like(body) if part is None else part * body
    return Scene(image=image, background=below, bare=lacking, body=body, part=covered)
