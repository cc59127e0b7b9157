"""Detectors of drawn products, and harmless changes of their pictures of 256 x 256 pixels.

The changes are the lamp, a bright corner and a shift. The same questions are asked of three
products in the integration tests and of fifteen in a campaign.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import torch

from tests import drawn
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor
from vqad.training.category import Training
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS

SIDE_PX: Final = 256
NUM_GOOD: Final = 20
NUM_DEFECTS: Final = 10  # of each kind
_NUM_TRAINING: Final = 120
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


def fitted(category: str) -> Detector:
    """A detector of the preset tiny, fitted by the library alone.

    By one thread: sums over several differ in their last bits from run to run, and some of the
    counts have no room.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    training = _training(category)
    for _ in training.records():
        pass
    detector = training.detector()
    torch.set_num_threads(before)
    return detector


def _training(category: str) -> Training:
    rngs = (np.random.default_rng([1, number]) for number in range(_NUM_TRAINING))
    pixels = _small(np.stack([drawn.draw(category, size_px=SIDE_PX, rng=rng) for rng in rngs]))
    names = [f"file:///{category}/{number:03}.png" for number in range(_NUM_TRAINING)]
    options = TrainOptions(category=category, kind=drawn.KINDS[category], preset="tiny")
    return Training(names, pixels, options)


def num_kept(detector: Detector, change: str) -> int:
    """Number of good pictures of which a change leaves the verdict as it is."""
    pictures = good_pictures(detector.settings.category, NUM_GOOD)
    before, after = (_verdicts(detector, each) for each in (pictures, CHANGES[change](pictures)))
    return sum(one == other for one, other in zip(before, after, strict=True))


def num_found(detector: Detector) -> dict[str, int]:
    """Number of found defects of each kind."""
    category, found = detector.settings.category, {}
    for defect in drawn.defects(category):
        rngs = (np.random.default_rng([7, number]) for number in range(NUM_DEFECTS))
        pictures = [
            drawn.draw_defect(category, defect, size_px=SIDE_PX, rng=rng)[0] for rng in rngs
        ]
        found[defect] = _verdicts(detector, np.stack(pictures)).count("defect")
    return found


def _verdicts(detector: Detector, pictures: np.ndarray) -> list[str]:
    batches = to_images(to_tensor(_small(pictures))).split(16)
    return [verdict for batch in batches for verdict in detector.inspect(batch).verdicts]


def _small(pictures: np.ndarray) -> np.ndarray:
    size = (PRESETS["tiny"].vqvae.image_size_px,) * 2
    return np.stack([cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures])
