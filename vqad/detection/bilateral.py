"""The bilateral filter of anomaly maps as tensor operations, for maps that lie on a GPU.

`anomaly_map.smooth` filters with OpenCV, one map after the other on a CPU: of the time of an H200
and its CPU, that took two thirds. This is the same filter on a whole batch. OpenCV reads the
weights of colours from a table and interpolates, so both agree to about a thousandth of a grey
level, and not in bits.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor


def bilateral(
    maps: Float32[Tensor, "num rows cols"],
    *,
    radius_px: int,
    sigma_colour: float,
    sigma_space_px: float,
) -> Float32[Tensor, "num rows cols"]:
    """Filter maps, in a disc around each pixel; the border is reflected without its last pixel.

    A map that is 0 everywhere stays exactly 0.
    """
    _, rows, cols = maps.shape
    wide = F.pad(maps[:, None], (radius_px,) * 4, mode="reflect")[:, 0]
    total, weights = torch.zeros_like(maps), torch.zeros_like(maps)
    steps = range(-radius_px, radius_px + 1)
    for down, right in ((down, right) for down in steps for right in steps):
        square = down**2 + right**2
        if square > radius_px**2:
            continue
        top, left = radius_px + down, radius_px + right
        seen = wide[:, top : top + rows, left : left + cols]
        # The product of both Gaussians, of the distance in space and of that in grey levels.
        exponent = (seen - maps).square_().mul_(-0.5 / sigma_colour**2)
        weight = exponent.sub_(0.5 * square / sigma_space_px**2).exp_()
        weights += weight
        total.addcmul_(weight, seen)
    return total / weights
