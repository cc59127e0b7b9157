"""The convolutional autoencoder of the baselines AE-L2 and AE-SSIM (Bergmann et al. 2019)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad.array_types import Images

WINDOW_PX = 11  # side of the window of structural similarity


_SMALLEST_PX = 8  # side of the map that the last convolution turns into numbers


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the network; Bergmann et al. 2019, table 1, is for 128 px."""

    image_size_px: int = 256
    code_dim: int = 100  # numbers that an image is encoded to
    width: int = 32  # channels of the first convolutions; the widest has four times as many

    def __post_init__(self) -> None:
        """Refuse sizes that halving does not bring to 8 pixels."""
        ratio = self.image_size_px / _SMALLEST_PX
        if ratio < 4 or ratio != 2 ** round(np.log2(ratio)):
            raise ValueError(
                f"image_size_px must be 32, 64, 128, ... for an autoencoder, "
                f"got {self.image_size_px}"
            )
        for name in ("code_dim", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def channels(self) -> list[tuple[int, int]]:
        """Output channels and stride of each 4x4 (stride 2) and 3x3 (stride 1) convolution.

        At 128 px they are those of the source. Larger images have more halvings in front, smaller
        ones fewer.
        """
        num_halvings = round(np.log2(self.image_size_px / _SMALLEST_PX))
        w = self.width
        front = [(w, 2)] * (num_halvings - 2)
        return [*front, (w, 1), (2 * w, 2), (2 * w, 1), (4 * w, 2), (2 * w, 1), (w, 1)]


class Autoencoder(nn.Module):
    """Encodes images to a hundred numbers and decodes them."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        there: list[nn.Module] = []
        back: list[nn.Module] = []
        before = 3
        for num, stride in config.channels:
            side = 4 if stride == 2 else 3
            there += [nn.Conv2d(before, num, side, stride, 1), nn.LeakyReLU(0.2)]
            back[:0] = [nn.ConvTranspose2d(num, before, side, stride, 1), nn.LeakyReLU(0.2)]
            before = num
        there.append(nn.Conv2d(before, config.code_dim, _SMALLEST_PX))
        squeezed = nn.ConvTranspose2d(config.code_dim, before, _SMALLEST_PX)
        # The last layer has no activation: its output is the image.
        self.layers = nn.Sequential(*there, squeezed, nn.LeakyReLU(0.2), *back[:-1])

    def forward(self, images: Images) -> Images:
        """Reconstruct images in [0, 1]; the results may leave that range a little."""
        return (self.layers(images * 2 - 1) + 1) / 2


def similarity(one: Images, other: Images) -> Images:
    """Structural similarity at each pixel and channel, in [-1, 1] (Wang et al. 2004).

    Statistics are taken in square windows of 11 pixels with equal weights; borders are reflected.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = one.float().contiguous(), other.float().contiguous()
        means = [_windows(each) for each in (one, other, one * one, other * other, one * other)]
        mean_one, mean_other, squares_one, squares_other, products = means
        covariance = products - mean_one * mean_other
        variances = squares_one - mean_one.square() + squares_other - mean_other.square()
        # The constants of the source, for values of [0, 1].
        c1, c2 = 0.01**2, 0.03**2
        level = (2 * mean_one * mean_other + c1) / (mean_one.square() + mean_other.square() + c1)
        return level * (2 * covariance + c2) / (variances + c2)


def _windows(pictures: Images) -> Images:
    # Rows, then columns, as sums of shifted images: this takes a third of the time of a pooling
    # layer on a CPU.
    half, (height, width) = WINDOW_PX // 2, pictures.shape[-2:]
    padded = F.pad(pictures, (half, half, half, half), mode="reflect")
    rows: Tensor = sum(padded[..., at : at + height, :] for at in range(WINDOW_PX))  # type: ignore[assignment]
    square: Tensor = sum(rows[..., at : at + width] for at in range(WINDOW_PX))  # type: ignore[assignment]
    return square / WINDOW_PX**2
