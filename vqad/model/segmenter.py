"""A segmenter of residuals: how much each place of an image looks like a defect.

Its input has many channels for each place: how far the features there are from what is normal. A
few convolutions look at a place and its surroundings, so the segmenter can learn that some
residuals are normal variation and that others, smaller ones perhaps, have the form of a defect.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float32
from torch import Tensor, nn

MOST_CHANNELS: Final = 256
MOST_WIDTH: Final = 256  # with both, the weights take less than 9 MB
_DROPPED: Final = 0.1  # of the input's channels in training, so that no single one decides; a guess
_BIAS: Final = -3.0  # at the start most places are normal


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Sizes of the network."""

    num_channels: int  # of the residual of a place
    width: int = 48  # channels of the convolutions

    def __post_init__(self) -> None:
        """Refuse sizes that no segmenter has."""
        for name, most in (("num_channels", MOST_CHANNELS), ("width", MOST_WIDTH)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {getattr(self, name)}")


class Segmenter(nn.Module):
    """One convolution over channels, three over places, and a logit for each place."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.body = nn.Sequential(
            nn.Dropout2d(_DROPPED),
            *_layer(config.num_channels, width, size=1),
            *_layer(width, width, size=3),
            *_layer(width, width, size=3),
            *_layer(width, width, size=3, dilation=2),
        )
        self.output = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.output.bias, _BIAS)  # type: ignore[arg-type]

    def forward(
        self, residuals: Float32[Tensor, "batch channels rows cols"]
    ) -> Float32[Tensor, "batch rows cols"]:
        """The logit of each place: above 0, a defect is more probable than not."""
        residuals = residuals.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.output(self.body(residuals))
        return logits[:, 0].float()


def _layer(num_in: int, num_out: int, *, size: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    padding = dilation * (size // 2)
    convolution = nn.Conv2d(num_in, num_out, size, padding=padding, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True)
