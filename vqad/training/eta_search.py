"""The search for eta on rectangles painted onto held-out images (4.3.3, figure 5)."""

from collections.abc import Callable, Iterable

import numpy as np
from sklearn.metrics import roc_auc_score

from vqad.detection.calibrate import DEFAULT_ETA

# Two values per decade from 1e-5 to 1e-2, and the paper's.
ETA_GRID = (1e-5, 3e-5, 1e-4, 3e-4, 5e-4, 1e-3, 3e-3, 1e-2)

RECTANGLE_SHARE = 0.01  # of the image's area


def painted(
    images: Iterable[np.ndarray], *, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Paint one black or grey rectangle of 1 % of the area onto each image (figure 5).

    Images (height, width, 3) in [0, 1]; returns them painted, and masks (height, width).
    """
    rng = np.random.default_rng(seed)
    pictures = [each.copy() for each in images]
    masks = [np.zeros(each.shape[:2], bool) for each in pictures]
    for image, mask in zip(pictures, masks, strict=True):
        height, width = image.shape[:2]
        aspect = rng.uniform(0.5, 2)
        tall = min(height, max(1, round(np.sqrt(RECTANGLE_SHARE * height * width * aspect))))
        wide = min(width, max(1, round(RECTANGLE_SHARE * height * width / tall)))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        image[top : top + tall, left : left + wide] = rng.choice([0.0, 0.5])
        mask[top : top + tall, left : left + wide] = True
    return pictures, masks


def search_eta(values_at: Callable[[float], np.ndarray], truth: np.ndarray) -> tuple[float, float]:
    """The eta of the grid with the best pixel AUROC on painted images, and that AUROC.

    ``values_at`` returns the values of their anomaly maps for an eta, and ``truth`` is True for
    those that are painted. If several are best, the one whose ratio to the paper's eta is nearest
    to 1 is taken.
    """
    found = [(float(roc_auc_score(truth.ravel(), values_at(eta).ravel())), eta) for eta in ETA_GRID]
    auroc, eta = max(found, key=lambda at: (at[0], -abs(np.log(at[1] / DEFAULT_ETA))))
    return eta, auroc
