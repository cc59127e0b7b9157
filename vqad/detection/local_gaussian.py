"""The Gaussian of each place: mean and covariance of the features of normal images there.

    x = features / deviation,   P = (covariance + (.05 trace / channels + .001) I)^-1

The covariance of a place is averaged over the places around it, since a product never lies in
exactly the same pose and few images say little about 30 x 30 numbers. P is the metric in which
`local_neighbours` measures how far features are from those of normal images.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor

# All from quick trials on seven products, of which none decided alone.
_SMALLEST_DEVIATION: Final = 3e-4
_AROUND: Final = 2  # cells to each side
_SHRINKAGE: Final = 0.05
_FLOOR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class LocalGaussian:
    """What is usual at each place."""

    deviation: Float32[Tensor, " channels"]  # of each feature over all places
    mean: Float32[Tensor, "rows cols channels"]  # of features / deviation
    precision: Float32[Tensor, "rows cols channels channels"]


def fit_gaussian(
    features: Float32[Tensor, "num rows cols channels"],
    counted: Bool[Tensor, "num rows cols"] | None = None,
) -> LocalGaussian:
    """Fit one Gaussian to each place of normal images; some places may not count."""
    num, rows, cols, channels = features.shape
    deviation = over_places(features, counted).std(0).clamp(min=_SMALLEST_DEVIATION)
    scaled = features / deviation
    mean = _smoothed(scaled.mean(0))
    away = (scaled - mean).permute(1, 2, 3, 0).reshape(rows * cols, channels, num)
    covariance = torch.bmm(away, away.mT) / num
    grid = covariance.view(rows, cols, -1).permute(2, 0, 1)[:, None]
    around = F.avg_pool2d(grid, 2 * _AROUND + 1, 1, _AROUND, count_include_pad=False)
    covariance = around[:, 0].permute(1, 2, 0).reshape(rows, cols, channels, channels)
    level = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    ridge = (_SHRINKAGE * level + _FLOOR)[..., None, None] * torch.eye(channels)
    precision = torch.linalg.inv(covariance + ridge)
    return LocalGaussian(deviation=deviation, mean=mean, precision=(precision + precision.mT) / 2)


def over_places(
    features: Float32[Tensor, "num rows cols channels"],
    counted: Bool[Tensor, "num rows cols"] | None,
) -> Float32[Tensor, "places channels"]:
    """The features of all places that count, of all images."""
    return features.flatten(0, 2) if counted is None else features[counted]


def _smoothed(mean: Float32[Tensor, "rows cols channels"]) -> Tensor:
    # A Gaussian of one cell: the product does not lie still to a cell.
    weights = torch.from_numpy(np.exp(-0.5 * np.arange(-3, 4) ** 2)).float()
    kernel = weights / weights.sum()
    planes = F.pad(mean.permute(2, 0, 1)[:, None], (3, 3, 3, 3), mode="reflect")
    along = F.conv2d(planes, kernel.view(1, 1, 1, 7))
    return F.conv2d(along, kernel.view(1, 1, 7, 1))[:, 0].permute(1, 2, 0).contiguous()
