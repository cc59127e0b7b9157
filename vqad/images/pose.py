"""How a product lies in an image, and its picture turned into the pose of a template and back.

`alignment` finds the pose. This module loads no torch: processes that decode images need it.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

Picture = Float32[ndarray, "size size 3"]  # RGB in [0, 1]
Matrix = Float64[ndarray, "3 3"]

_LEVELS: Final = 255  # of an aligned picture


@dataclass(frozen=True, eq=False, kw_only=True)
class Pose:
    """How a product lies in the model's input: where each pixel of the aligned picture is."""

    matrix: Matrix  # (x, y, 1) of the aligned picture to that of the input

    def aligned(self, picture: Picture) -> Picture:
        """The picture in the template's pose, in 8-bit steps as those of a training.

        What was outside the picture has the colour of its border.
        """
        turned = warped(picture, self.matrix)
        return np.round(turned * np.float32(_LEVELS)) / np.float32(_LEVELS)

    def turned_back(self, square: ndarray) -> ndarray:
        """A map or a picture of the aligned product as one of the input, 0 where it has none."""
        return cv2.warpAffine(square, self.matrix[:2], square.shape[1::-1], flags=cv2.INTER_LINEAR)


def warped(picture: ndarray, matrix: Matrix) -> ndarray:
    """A picture of which each pixel is the one that the matrix says; its border goes on outside."""
    return cv2.warpAffine(
        picture,
        matrix[:2],
        picture.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
