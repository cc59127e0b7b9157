"""Harmless changes of drawn pictures of 256 x 256 pixels: the lamp, a bright corner, a shift."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from tests import drawn
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor

SIDE_PX: Final = 256
_SHIFT_PX: Final = 3
_DIRECTIONS: Final = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)]


def good_pictures(category: str, num: int) -> np.ndarray:
    """Drawn pictures of good products that no training has seen."""
    rngs = (np.random.default_rng([2, number]) for number in range(num))
    return np.stack([drawn.draw(category, size_px=SIDE_PX, rng=rng) for rng in rngs])


def dimmed(pictures: np.ndarray) -> np.ndarray:
    """A tenth less light."""
    return np.round(pictures * 0.9).astype(np.uint8)


def shifted(pictures: np.ndarray) -> np.ndarray:
    """Each shifted by 3 pixels, in one of eight directions; the border is reflected."""
    found = []
    for at, picture in enumerate(pictures):
        down, right = (_SHIFT_PX * (1 + step) for step in _DIRECTIONS[at % len(_DIRECTIONS)])
        around = np.pad(picture, ((_SHIFT_PX,) * 2, (_SHIFT_PX,) * 2, (0, 0)), mode="reflect")
        found.append(around[down : down + SIDE_PX, right : right + SIDE_PX])
    return np.stack(found)


def with_a_bright_corner(pictures: np.ndarray) -> np.ndarray:
    """A fifth more light in one corner, which fades over a third of the side."""
    away = (np.arange(SIDE_PX) + 0.5) / SIDE_PX
    more = 0.2 * np.clip(1 - 3 * np.hypot(away[:, None], away[None]), 0, 1)
    gains = np.stack([np.rot90(1 + more, at % 4) for at in range(len(pictures))])
    return np.round(pictures * gains[..., None]).clip(0, 255).astype(np.uint8)


CHANGES: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "dimmed": dimmed,
    "shifted": shifted,
    "with a bright corner": with_a_bright_corner,
}


def verdicts_of(detector: Detector, pictures: np.ndarray) -> list[str]:
    """Verdicts on pictures, in the detector's size."""
    size = (detector.settings.vqvae.image_size_px,) * 2
    small = np.stack([cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures])
    batches = to_images(to_tensor(small)).split(16)
    return [verdict for batch in batches for verdict in detector.inspect(batch).verdicts]
