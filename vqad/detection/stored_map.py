"""An anomaly map with the precision that it is stored with.

Most bits of a map's float32 values are noise, and noise can't be compressed. So values are rounded
to a grid, and a map takes a quarter of the bytes. Scores don't change, and verdicts and regions are
those of the stored map: setting another threshold later gives what a new inspection would.

The grid is one for all maps, so that values compare between images as before. Near the score of
the image it is finer: the form full compresses values above the score to just around it, and their
order counts. `vqad/README.md` has the bytes and the metrics of this grid and of others.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from vqad.array_types import AnomalyMap

# Steps of the grid, in the map's unit. From 1/2 to 32 a step is 1/32, so that maps of thresholds
# near 1, the smallest, are still cut where they were. Above, it grows with the value; below, it
# shrinks with it, because filters leave many small values whose order counts in the metrics.
_STEP: Final = np.float32(1 / 32)
_SMALLEST_SHARE: Final = np.float32(1 / 512)  # of the power of two below the value
_LARGEST_SHARE: Final = np.float32(1 / 16)
_SMALLEST_EXPONENT: Final = -20  # values below 2 ** -20 are one: smaller steps would not be numbers
_FINER: Final = np.float32(1 / 32)  # of a step, near the score


def as_stored(anomaly_map: AnomalyMap, *, image_score: float) -> AnomalyMap:
    """Round a map; its values must be finite and at least 0.

    No value is rounded across the score, and none of two values is made the larger one that was
    the smaller one before. So `score.score` of the rounded map is the same in bits. What is 0 stays
    0, and a map that was rounded before does not change.
    """
    wanted = np.full(1, image_score, np.float32)
    steps = _steps(anomaly_map)
    floors = np.floor(anomaly_map / steps) * steps
    # The middle of a step: regions would shrink if values were rounded down.
    rounded = np.where(anomaly_map > 0, floors + steps / 2, np.float32(0))
    if wanted[0] <= 0:
        return rounded
    step = _steps(wanted)
    is_near = np.abs(floors - np.floor(wanted / step) * step) <= step
    finer = np.floor(anomaly_map / (step * _FINER)) * (step * _FINER)
    finer = np.where(anomaly_map >= wanted, np.maximum(finer, wanted), finer)
    return np.where(is_near, finer, rounded)


def _steps(values: Float32[ndarray, "*shape"]) -> Float32[ndarray, "*shape"]:
    exponents = np.maximum(np.frexp(values)[1] - 1, _SMALLEST_EXPONENT)
    powers = np.ldexp(np.float32(1), exponents)
    return np.minimum(np.maximum(_STEP, powers * _SMALLEST_SHARE), powers * _LARGEST_SHARE)
