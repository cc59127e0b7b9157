"""A flaw that only drawn products with several parts have: a part is not there."""

import cv2
import numpy as np
from numpy.random import Generator

from vqad.synthetic.flaws import blob, somewhere
from vqad.synthetic.scenes import Canvas, Scene, over, softened

_LARGEST_PART = 0.15  # share of the picture; a larger part is a lattice


def missing_part(scene: Scene, rng: Generator) -> Canvas:
    """Leave out whole parts with their shadows, or a patch where all parts hang together."""
    centre = somewhere(scene.part, rng)
    _, labels = cv2.connectedComponents((scene.part > 0.5).astype(np.uint8))
    touched = np.unique(labels[blob(scene.part, centre, rng.uniform(0.04, 0.10), rng, 0.1) > 0])
    gap = np.isin(labels, touched[touched > 0]).astype(np.float32)
    if gap.mean() > _LARGEST_PART:
        gap = blob(scene.part, centre, rng.uniform(0.09, 0.16), rng, 0.08)
    reach = len(gap) // 16
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    widened = cv2.dilate(gap, disc).astype(np.float32)
    return over(scene.image, softened(widened, reach / 2), scene.bare)
