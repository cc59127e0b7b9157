"""Turn the picture of a product that lies in any direction into the pose of a template.

A screw that lies in a new direction in each image has other features and other codes at every
place, so nothing that compares places can say what is normal there. Turned into one pose, each
place shows the same part of the product. A pose is found in two steps:

1. Coarse: the picture is turned by each multiple of 10 degrees. The turn and the shift whose
   correlation with the template is largest are taken (by FFT, as all shifts are tried at once).
2. Fine: from there, turn and shift are improved until the correlation with a larger template does
   not grow any more (Evangelidis and Psarakis 2008, `cv2.findTransformECC`).

Pictures are compared by how much each pixel differs from the colour of the border, so that a
product is bright on any background. The paper has none of this.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64
from numpy import ndarray
from torch import Tensor, nn

from vqad.images.pose import Matrix, Picture, Pose, warped
from vqad.images.roi import resized

Contrast = Float32[ndarray, "side side"]
Turned = Float32[ndarray, "turns side side"]

COARSE_PX: Final = 64
FINE_PX: Final = 128
_STEP_DEGREES: Final = 10  # 5 degrees took twice as long and were not better after the fine step
_MOST_SHIFT: Final = 10  # pixels of the coarse picture to each side, a sixth of it; a guess
_CONTRAST: Final = 30 / 255  # sum over the channels; larger differences count by their logarithm
_BLUR_PX: Final = 1.0
# Corners leave the picture when it is turned, so they count less; from the middle, 1 is the edge.
_FULL_WEIGHT_TO: Final = 0.8
_NO_WEIGHT_FROM: Final = 1.1
_MOST_ITERATIONS: Final = 20
_SMALLEST_GAIN: Final = 1e-4


class Alignment(nn.Module):
    """The templates of one product."""

    coarse: Tensor
    fine: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coarse", torch.zeros(COARSE_PX, COARSE_PX))
        self.register_buffer("fine", torch.zeros(FINE_PX, FINE_PX))

    def pose(self, picture: Picture) -> Pose:
        """The pose of the product in a picture."""
        start = _scaled(self._coarse_matrix(picture), COARSE_PX, FINE_PX)
        found = _improved(start, contrast(picture, FINE_PX), self.fine.cpu().numpy())
        return Pose(matrix=_scaled(found, FINE_PX, len(picture)))

    def coarse_pose(self, picture: Picture) -> Pose:
        """The pose of the first step alone."""
        return Pose(matrix=_scaled(self._coarse_matrix(picture), COARSE_PX, len(picture)))

    def _coarse_matrix(self, picture: Picture) -> Matrix:
        turned = turns(contrast(picture, COARSE_PX))
        return best_turn(turned, self.coarse.cpu().numpy()).matrix


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The best of the turns of a coarse picture, and how alike it and the template are then."""

    number: int
    down: int  # pixels by which the turned picture is moved
    right: int
    correlation: float  # 1 for equal pictures

    @property
    def matrix(self) -> Matrix:
        """From pixels of the aligned coarse picture to those of the coarse picture."""
        forward = np.vstack([_rotation(self.number), [0, 0, 1]])
        forward[:2, 2] += (self.right, self.down)
        return np.linalg.inv(forward)


def contrast(picture: Picture, side_px: int) -> Contrast:
    """How much each pixel differs from the colour of the border, at this size."""
    small = resized(picture, (side_px, side_px))
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    away = np.abs(small - np.median(border, axis=0)).sum(2)
    return cv2.GaussianBlur(np.log1p(away / np.float32(_CONTRAST)), (0, 0), _BLUR_PX)


def turns(coarse: Contrast) -> Turned:
    """The coarse picture in all directions, each of mean 0 and length 1."""
    size = coarse.shape[::-1]
    turned = [
        cv2.warpAffine(coarse, _rotation(number), size, borderMode=cv2.BORDER_REPLICATE)
        for number in range(360 // _STEP_DEGREES)
    ]
    return normalised(np.stack(turned) * _window())


def normalised(pictures: Turned) -> Turned:
    """Pictures of mean 0 and length 1."""
    away = pictures - pictures.mean((1, 2), keepdims=True)
    lengths = np.sqrt(np.square(away).sum((1, 2), keepdims=True))
    return away / np.maximum(lengths, np.finfo(np.float32).tiny)


def best_turn(turned: Turned, template: Contrast) -> Turn:
    """The turn and the shift by which a picture is most like the template."""
    spectra = np.conj(np.fft.rfft2(turned)) * np.fft.rfft2(template)
    correlations = np.fft.irfft2(spectra, s=template.shape)
    shifts = np.r_[0 : _MOST_SHIFT + 1, -_MOST_SHIFT:0]
    near = correlations[:, shifts][:, :, shifts]
    number, down, right = np.unravel_index(near.argmax(), near.shape)
    return Turn(
        number=int(number),
        down=int(shifts[down]),
        right=int(shifts[right]),
        correlation=float(near.max()),
    )


def _improved(start: Matrix, fine: Contrast, template: Contrast) -> Matrix:
    """The matrix from the aligned picture to the picture, as good as the fine template allows."""
    until = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _MOST_ITERATIONS, _SMALLEST_GAIN
    # From the turned picture on: OpenCV takes a direction by its arcsine, so it can't begin with a
    # turn of more than 90 degrees.
    first = np.eye(2, 3, dtype=np.float32)
    turned = warped(fine, start)
    try:
        _, found = cv2.findTransformECC(template, turned, first, cv2.MOTION_EUCLIDEAN, until)
    except cv2.error:  # it did not converge: the picture may be empty
        return start
    improved = start @ np.vstack([found.astype(np.float64), [0, 0, 1]])
    # It compares what overlaps alone, so it may push most of a product out of the picture.
    before, after = (_likeness(each, template) for each in (turned, warped(fine, improved)))
    return improved if after > before else start


def _likeness(turned: Contrast, template: Contrast) -> float:
    """The correlation of a turned picture and a template."""
    return float((normalised(turned[None]) * normalised(template[None])).sum())


def _scaled(matrix: Matrix, side_px: int, other_px: int) -> Matrix:
    """The same matrix for pictures of another size; pixel centres are at halves."""
    factor = other_px / side_px
    to_other = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    return to_other @ matrix @ np.linalg.inv(to_other)


def _rotation(number: int) -> Float64[ndarray, "2 3"]:
    middle = (COARSE_PX - 1) / 2
    return cv2.getRotationMatrix2D((middle, middle), float(number * _STEP_DEGREES), 1)


@cache
def _window() -> Contrast:
    away = (np.arange(COARSE_PX) + 0.5) / COARSE_PX * 2 - 1
    radius = np.hypot(away[:, None], away[None])
    weight = (_NO_WEIGHT_FROM - radius) / (_NO_WEIGHT_FROM - _FULL_WEIGHT_TO)
    return weight.clip(0, 1).astype(np.float32)
