"""What the image as a whole explains of the features at each place: light, exposure, grain.

A dimmer lamp changes the features everywhere, and is no defect. How they change with it is learnt
from normal images alone: each feature at each place is a linear function of a few numbers of the
whole image, the principal components of its median features. Only what is left is compared with
normal images. The median makes a defect of less than half the image leave these numbers alone.

    left = features - components(median features) @ weights of the place
"""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from vqad.images.placement import SomePlaces

MOST_COMPONENTS: Final = 8
# With fewer images a component fits their noise: 8 from 81 images cost .04 of AU-PRO on one.
_IMAGES_PER_COMPONENT: Final = 25
_RIDGE: Final = 0.3
_AROUND: Final = 2  # cells to each side whose weights are averaged
_EVERY: Final = 2  # places that the median is taken of
_SMALLEST_VARIANCE: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class ImageContext:
    """Components of the whole image, and their weights at each place."""

    centre: Float32[Tensor, " channels"]
    axes: Float32[Tensor, "channels components"]
    weights: Float32[Tensor, "rows cols components channels"]

    def left(
        self, features: Float32[Tensor, "num rows cols channels"], places: SomePlaces | None = None
    ) -> Float32[Tensor, "num rows cols channels"]:
        """Features without what the image as a whole, its ``places`` that count, explains."""
        components = (_medians(features, places) - self.centre) @ self.axes
        return features - torch.einsum("nk,ijkc->nijc", components, self.weights)


def no_context(num_channels: int) -> ImageContext:
    """A context that explains nothing."""
    return ImageContext(
        centre=torch.zeros(num_channels),
        axes=torch.zeros(num_channels, 1),
        weights=torch.zeros(1, 1, 1, num_channels),
    )


def num_components(num_images: int) -> int:
    """As many as that many images can support."""
    return max(1, min(MOST_COMPONENTS, num_images // _IMAGES_PER_COMPONENT))


def fit_context(
    features: Float32[Tensor, "num rows cols channels"],
    deviation: Float32[Tensor, " channels"],
    places: SomePlaces | None = None,
) -> ImageContext:
    """Fit to normal images; ``deviation`` is of each feature over all places."""
    num, rows, cols, channels = features.shape
    medians = _medians(features, places)
    centre = medians.mean(0)
    scaled = (medians - centre) / deviation
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / num)
    chosen = slice(channels - num_components(num), channels)
    root = values[chosen].clamp(min=_SMALLEST_VARIANCE).sqrt()
    axes = vectors[:, chosen] / root / deviation[:, None]
    components = (medians - centre) @ axes
    # Components are uncorrelated and of variance 1, so the ridge only shrinks the weights.
    moments = torch.einsum("nk,nijc->ijkc", components, features - features.mean(0)) / num
    grid = moments.reshape(rows, cols, -1).permute(2, 0, 1)[:, None]
    around = F.avg_pool2d(grid, 2 * _AROUND + 1, 1, _AROUND, count_include_pad=False)
    weights = around[:, 0].permute(1, 2, 0).reshape(moments.shape) / (1 + _RIDGE)
    return ImageContext(centre=centre, axes=axes, weights=weights.contiguous())


def _medians(features: Tensor, places: SomePlaces | None) -> Float32[Tensor, "num channels"]:
    if places is None:
        return features[:, ::_EVERY, ::_EVERY].flatten(1, 2).median(1).values
    found = zip(features, torch.from_numpy(places), strict=True)
    return torch.stack([each[counted].median(0).values for each, counted in found])
