"""What a segmenter sees of an image: how the features of each place differ from normal ones.

The distances L and M are one number for each place. The residual behind them has one for each
feature, so it also says in which way a place is unusual:

    white = (left - mean of the place), whitened over all places          as in L
    own   = (left - mean of the place) / deviation of the place           as in M
    residual = [asinh white, asinh own, log(1 + L), log(1 + M)]

asinh is linear near 0 and a logarithm far from it: a defect a hundred times as far as normal
variation would otherwise rule the segmenter's input. Mean and deviation are those of the bank.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from vqad.detection.local_features import FeatureOptions
from vqad.detection.local_neighbours import LocalNeighbours
from vqad.detection.shared_neighbours import SharedNeighbours

_AROUND: Final = 2  # cells to each side whose variances are averaged
_FLOOR: Final = 0.1  # of the variance over all places: a place of few images may hardly vary
_SMALLEST_VARIANCE: Final = 1e-12  # of a feature that is the same everywhere


@dataclass(frozen=True, kw_only=True)
class UsualPlaces:
    """Mean and deviation of the features of each place on normal images."""

    mean: Float32[Tensor, "rows cols channels"]
    deviation: Float32[Tensor, "rows cols channels"]


def usual_places(neighbours: LocalNeighbours | SharedNeighbours) -> UsualPlaces:
    """Measure the bank; a shared one has a single place, and so has what is usual."""
    bank = neighbours.bank.permute(3, 0, 1, 2) @ torch.linalg.inv(neighbours.to_white)
    variance = bank.var(0, correction=0).permute(2, 0, 1)[None]
    around = F.avg_pool2d(variance, 2 * _AROUND + 1, 1, _AROUND, count_include_pad=False)
    whole = bank.flatten(0, 2).var(0).clamp(min=_SMALLEST_VARIANCE)
    deviation = (around[0].permute(1, 2, 0) + _FLOOR * whole).sqrt()
    return UsualPlaces(mean=bank.mean(0), deviation=deviation.contiguous())


def num_channels(options: FeatureOptions) -> int:
    """Channels of a place's residual."""
    return 2 * options.num_channels + 2


def residuals(
    left: Float32[Tensor, "num rows cols channels"],
    distances: Float32[ndarray, "2 num rows cols"],
    usual: UsualPlaces,
    to_white: Float32[Tensor, "channels channels"],
) -> Float32[Tensor, "num residual_channels rows cols"]:
    """Residuals of images, of the features that their context leaves and of both distances."""
    away = left - usual.mean
    parts = [
        _asinh(away @ to_white),
        _asinh(away / usual.deviation),
        torch.log1p(torch.from_numpy(np.moveaxis(distances, 0, -1)).to(left.device)),
    ]
    return torch.cat(parts, -1).movedim(-1, 1)


def _asinh(values: Tensor) -> Tensor:
    if values.is_cuda:
        return values.asinh()
    # On a CPU numpy's takes a tenth of the time of torch's, which goes from number to number.
    return torch.from_numpy(np.arcsinh(values.numpy()))
