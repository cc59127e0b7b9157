"""What painted defects are filled with: other places, colours, light, roughness, wrong forms.

A filling returns a replacement for the part of a picture that a defect covers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import cv2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.random import Generator

Part = Float32[ndarray, "rows cols 3"]  # of a picture, RGB in [0, 1]
Share = Float32[ndarray, "rows cols"]  # of each pixel, in [0, 1]
Drawn = TypeVar("Drawn")


@dataclass(frozen=True, kw_only=True)
class Covered:
    """The part of a picture that a defect covers."""

    part: Part
    share: Share
    source: Float32[ndarray, "side side 3"]  # a whole normal picture, to take other places from
    corner: tuple[int, int]  # (left, top) of the part in its picture, px
    grey: bool  # the product is pictured without colour


Filling = Callable[[Covered, Generator], Part]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform: small and large ones alike."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def noise(shape: tuple[int, ...], cells: float, rng: Generator) -> Float32[ndarray, "rows cols"]:
    """Smooth noise of deviation 1 or a little less, of so many cells on each side."""
    coarse = rng.standard_normal((max(2, int(cells)),) * 2, np.float32)
    return cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC)


def one_of(drawn: Sequence[tuple[Drawn, float]], rng: Generator) -> Drawn:
    """One of several, each with its frequency."""
    weights = np.array([weight for _, weight in drawn])
    return drawn[rng.choice(len(drawn), p=weights / weights.sum())][0]


def _elsewhere(covered: Covered, rng: Generator) -> Part:
    """Another place of the source: moved, and often turned and scaled."""
    side = len(covered.source)
    turn, scale = rng.uniform(0, 360), log_uniform(rng, 0.65, 1.5)
    if rng.random() < 0.4:
        turn, scale = 0.0, 1.0
    move = cv2.getRotationMatrix2D((side / 2, side / 2), turn, scale)
    move[:, 2] += side * rng.uniform(-0.4, 0.4, 2) - np.array(covered.corner)
    size = covered.part.shape[1::-1]
    return cv2.warpAffine(covered.source, move, size, borderMode=cv2.BORDER_REFLECT_101)


def _mean(part: Part, share: Share) -> Float32[ndarray, "3"]:
    """The mean colour of what is covered."""
    return (part * share[..., None]).sum((0, 1)) / max(float(share.sum()), 1e-3)


def _smoothed(part: Part, sigma: float) -> Part:
    if sigma < 3:
        return cv2.GaussianBlur(part, (0, 0), max(0.5, sigma))
    small = cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
    return cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _transplant(covered: Covered, rng: Generator) -> Part:
    """Another place, often in the colour of this one."""
    found = _elsewhere(covered, rng)
    if rng.random() < 0.6:
        away = _mean(covered.part, covered.share) - _mean(found, covered.share)
        found += away * np.float32(rng.uniform(0.5, 1))
    return found


def _detail(covered: Covered, rng: Generator) -> Part:
    """The fine structure of another place on the coarse one of this place."""
    sigma = len(covered.source) * log_uniform(rng, 0.01, 0.055)
    found = _elsewhere(covered, rng)
    amount = np.float32(log_uniform(rng, 0.5, 2.5) * rng.choice([1, 1, 1, 1, -1]))
    offset = np.float32(rng.integers(2) * rng.uniform(-0.06, 0.06))
    return _smoothed(covered.part, sigma) + amount * (found - _smoothed(found, sigma)) + offset


def _colour(covered: Covered, rng: Generator) -> Part:
    """One colour, sometimes with smooth noise."""
    usual = _mean(covered.part, covered.share)
    if covered.grey:
        wanted = usual + rng.choice([-1, 1]) * log_uniform(rng, 0.04, 0.6)
    elif rng.random() < 0.35:
        wanted = rng.uniform(0, 1, 3)
    else:
        wanted = usual + rng.normal(0, 1, 3) * log_uniform(rng, 0.04, 0.4)
    found = np.broadcast_to(wanted.clip(0, 1).astype(np.float32), covered.part.shape)
    if rng.random() < 0.5:
        return found
    cells = max(covered.part.shape) * log_uniform(rng, 0.05, 0.7)
    amount = np.float32(log_uniform(rng, 0.02, 0.25))
    return found + amount * noise(covered.part.shape, cells, rng)[..., None]


def _light(covered: Covered, rng: Generator) -> Part:
    """Brighter or darker, in all colours or in each by itself."""
    num = 1 if covered.grey or rng.random() < 0.5 else 3
    gain = np.exp(rng.uniform(-0.8, 0.5, num)).astype(np.float32)
    return covered.part * gain + rng.uniform(-0.1, 0.1, num).astype(np.float32)


def _contrast(covered: Covered, rng: Generator) -> Part:
    """Worn or blurred, or with too much structure."""
    smoothed = _smoothed(covered.part, len(covered.source) * log_uniform(rng, 0.008, 0.05))
    return smoothed + np.float32(rng.choice([0.0, 0.3, 0.6, 1.8, 2.5])) * (covered.part - smoothed)


def _rough(covered: Covered, rng: Generator) -> Part:
    """Grain, in one direction at times."""
    grain = noise(covered.part.shape, max(covered.part.shape) * log_uniform(rng, 0.1, 1.0), rng)
    if rng.random() < 0.5:
        length = int(rng.integers(5, 16))
        kernel, angle = np.zeros((length, length), np.float32), rng.uniform(0, np.pi)
        reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        start, end = ((length / 2 + sign * reach).astype(int).tolist() for sign in (-1, 1))
        cv2.line(kernel, start, end, 1.0)
        grain = cv2.filter2D(grain, -1, kernel / np.sqrt(max(1.0, kernel.sum())))
    smoothed = _smoothed(covered.part, len(covered.source) * 0.02)
    kept = np.float32(rng.uniform(0.3, 1.2)) * (covered.part - smoothed)
    return smoothed + kept + np.float32(log_uniform(rng, 0.015, 0.12)) * grain[..., None]


def _bent(covered: Covered, rng: Generator) -> Part:
    """The same place with its lines moved."""
    cells = max(3.0, max(covered.part.shape) / len(covered.source) * log_uniform(rng, 5.0, 18.0))
    strength = np.float32(len(covered.source) * log_uniform(rng, 0.01, 0.05))
    shape = covered.part.shape
    places = np.meshgrid(*(np.arange(num, dtype=np.float32) for num in shape[1::-1]))
    x, y = (each + strength * noise(shape, cells, rng) for each in places)
    return cv2.remap(covered.part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


# With how often each is drawn: a guess.
FILLINGS: Final[tuple[tuple[Filling, float], ...]] = (
    (_transplant, 0.24),
    (_detail, 0.2),
    (_colour, 0.2),
    (_light, 0.1),
    (_contrast, 0.1),
    (_rough, 0.07),
    (_bent, 0.09),
)
# Most scratches, cracks and fibres have a colour of their own.
LINE_FILLINGS: Final[tuple[tuple[Filling, float], ...]] = (
    (_colour, 0.6),
    (_light, 0.2),
    (_transplant, 0.1),
    (_detail, 0.1),
)
