"""Decoded pixels as tensors, and as the input images of the networks."""

import numpy as np
import torch
from torch import Tensor

from vqad.array_types import Images


def to_images(pixels: Tensor) -> Images:
    """Images in [0, 1] of pixels (batch, height, width, 3): uint8, or int32 of 16-bit values."""
    largest = 255 if pixels.dtype == torch.uint8 else 65535
    return pixels.movedim(-1, 1).float().div_(largest)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Decoded pixels as a tensor: uint8 stays, uint16 becomes int32."""
    if pixels.dtype == np.uint16:
        return torch.from_numpy(pixels.astype(np.int32))
    return torch.from_numpy(np.ascontiguousarray(pixels))
