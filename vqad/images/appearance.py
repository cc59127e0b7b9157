"""Brightness, contrast and sharpness of images as the networks see them, for comparing nights."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32

from vqad.array_types import Images

_LUMA: Final = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Three numbers for each image of a batch."""

    brightness: Float32[np.ndarray, " batch"]  # mean luma, grey levels in [0, 255]
    contrast: Float32[np.ndarray, " batch"]  # standard deviation of the luma, grey levels
    # Root mean square of the Laplacian, divided by the contrast: without a unit. Light that is
    # twice as strong does not change it, defocus makes it smaller.
    sharpness: Float32[np.ndarray, " batch"]


@torch.inference_mode()
def appearance(batch: Images) -> Appearance:
    """Measure images (batch, 3, height, width), RGB in [0, 1]."""
    # Channel by channel: a product of all three at once takes four times as long.
    red, green, blue = batch.unbind(1)
    luma = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).mul_(255)
    middle = luma[:, 1:-1, 1:-1]
    sides = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    laplacian = (sides - 4 * middle).square().flatten(1).mean(1).sqrt()
    brightness = luma.flatten(1).mean(1)
    # Not torch.std, which takes six times as long.
    contrast = (luma - brightness[:, None, None]).square().flatten(1).mean(1).sqrt()
    # A picture of one colour has neither contrast nor edges.
    sharpness = torch.where(contrast > 0, laplacian / contrast.clamp(min=1e-6), 0.0)
    return Appearance(
        brightness=brightness.cpu().numpy(),
        contrast=contrast.cpu().numpy(),
        sharpness=sharpness.cpu().numpy(),
    )
