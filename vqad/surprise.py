"""How little the prior expected each code, as a second witness beside the resampled picture.

The paper's map (eq. 6) sees a defect only where resampling changes the picture, and by how much
its colours change: a scratch that is restored in nearly its own grey hardly shows. The prior knew
more than that. Here each code's -log likelihood is taken as it is, up to that of a code that the
paper calls improbable (-log eta: beyond it, nothing is learnt from a larger one), less what is
usual at that place on normal images, and joined with the paper's map in equal shares:

    anomaly_map = (difference + 441.7 * excess / -log(eta)) / 2

so that both witnesses, and the map, lie between 0 and the largest difference of two colours.
A prior looks back only, so it is surprised where a defect begins and grows used to it. Where an
image turned by 180 degrees is as good as the image (section 4.3.1), it reads it from both ends.

None of this is in the paper. What it brings is in the README; `plain` is the form without it.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from vqad.augment import Kind, nth_symmetry, variations
from vqad.shapes import AnomalyMap, Likelihood

Form = Literal["plain", "joined"]

Surprise = Float32[ndarray, "rows cols"]  # nats, each in [0, -log eta]

LARGEST_DIFFERENCE: Final = 255 * math.sqrt(3)  # of two colours, in grey levels
HALF_TURN: Final = 2  # of the symmetries of the square, the one that reads from the other end

# Both found on the labelled test images of bottle (README), at 32 cells a side.
_SMOOTHED_OVER = 1 / 20  # sigma of the smoothing, of the map's side
_USUAL_OVER = 1.5 / 32  # sigma of the smoothing of what is usual, likewise


def readings(kind: Kind) -> tuple[int, ...]:
    """The symmetries in which the prior reads an image: those that show it nothing new."""
    return (0,) if kind == "object" else (0, HALF_TURN)


def surprise(likelihoods: Sequence[Likelihood], kind: Kind, *, eta: float) -> list[Surprise]:
    """Mean surprise over the readings of a batch, in nats, each code's bounded by -log eta.

    ``likelihoods`` are those of the ``readings``, each as it lay when it was read.
    """
    upright = [
        # Turning by half a turn, or not at all, is its own way back.
        nth_symmetry(-torch.log(each.float().clamp(min=eta)), n)
        for each, n in zip(likelihoods, readings(kind), strict=True)
    ]
    return list(torch.stack(upright).mean(0).cpu().numpy())


def usual(surprises: Sequence[Surprise], kind: Kind) -> Surprise:
    """What is usual at each cell, from normal images: their mean, smoothed.

    Over a texture it is the same everywhere, and over what may be turned freely it is the same in
    every turn, so these are averaged too.
    """
    mean = np.mean(surprises, axis=0, dtype=np.float32)
    if kind == "texture":
        return np.full_like(mean, mean.mean())
    turned = torch.from_numpy(mean)
    every = [nth_symmetry(turned, n) for n in range(variations(kind) or 1)]
    return _smooth(torch.stack(every).mean(0).numpy(), _USUAL_OVER)


def joined(
    difference: AnomalyMap, found: Surprise, expected: Surprise, *, eta: float
) -> AnomalyMap:
    """Join the paper's map with the excess of the surprise over what is usual, in grey levels."""
    excess = _smooth(found - expected, _SMOOTHED_OVER).clip(0)
    grey = (excess * (LARGEST_DIFFERENCE / -math.log(eta))).astype(np.float32)
    height, width = difference.shape
    return (difference + cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)) / 2


def _smooth(cells: Surprise, share: float) -> Surprise:
    sigma = share * cells.shape[1]
    return cv2.GaussianBlur(cells, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).astype(np.float32)


__all__ = ["Form", "Surprise", "joined", "readings", "surprise", "usual"]
