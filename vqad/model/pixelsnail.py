"""The prior: PixelSNAIL over the code map (section 3.2, eq. 4, and 4.3.2).

It predicts the probability of every code from all codes before it in raster order. All its
convolutions are causal and have two parts: one reads the rows above, to both sides of the cell,
the other reads the row of the cell up to the cell. The input layer is shifted by one cell, so that
the features at a cell depend only on the codes strictly before it. All later layers may therefore
read their own cell.
"""

from dataclasses import dataclass
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad.array_types import Codes, Logits

# The largest sizes that a detector on storage may ask for (guesses, far above the paper's).
LARGEST_SIZES: Final = {
    "num_codes": 2**16,
    "latent_size": 256,
    "width": 1024,
    "num_stages": 64,
    "num_heads": 1024,
    "reach": 16,
    "input_reach": 16,
}


@dataclass(frozen=True, kw_only=True)
class PixelSNAILConfig:
    """Sizes of the prior; each stage has a residual block and an attention block (4.3.2)."""

    num_codes: int = 512
    latent_size: int = 32  # cells on each side of the code map
    width: int = 128  # channels; the paper does not say, and this is affordable on a CPU
    num_stages: int = 3  # residual block + attention block, repeated
    num_heads: int = 4  # of the attention
    dropout: float = 0.1  # inside the residual blocks; a guess
    reach: int = 2  # rows above, and cells to either side and to the left, of a convolution
    input_reach: int = 3  # the same for the input layer
    place_bias: bool = False  # add the log frequency of each code at each place to the logits

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have."""
        for name, largest in LARGEST_SIZES.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in [1, {largest}], got {getattr(self, name)}")
        if self.width % self.num_heads:
            raise ValueError(
                f"width must be a multiple of num_heads, got {self.width} and {self.num_heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


class CausalConv(nn.Module):
    """A convolution over the ``reach`` rows above and, in its own row, up to the cell.

    With ``strict`` the cell itself is left out.
    """

    def __init__(self, channels: int, out: int, reach: int, *, strict: bool = False) -> None:
        super().__init__()
        self.reach = reach
        self.strict = strict
        self.above = nn.Conv2d(channels, out, (reach, 2 * reach - 1), bias=False)
        self.left = nn.Conv2d(channels, out, (1, reach if strict else reach + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, channels, rows, cols) to (batch, out, rows, cols)."""
        return self.from_above(x) + self.from_left(x)

    def from_above(self, x: Tensor) -> Tensor:
        """The contribution of the rows above."""
        side = self.reach - 1
        # There is one more row of output than of input; the last one is for the row below.
        return self.above(F.pad(x, (side, side, self.reach, 0)))[:, :, :-1]

    def from_left(self, x: Tensor) -> Tensor:
        """The contribution of the row of the cell."""
        if self.strict:
            return self.left(F.pad(x, (self.reach, 0, 0, 0)))[..., :-1]
        return self.left(F.pad(x, (self.reach, 0, 0, 0)))


def gate(x: Tensor) -> Tensor:
    """Multiply each channel of the first half by the sigmoid of its partner in the second half."""
    return F.glu(x, dim=1)


class GatedResidual(nn.Module):
    """ELU, causal convolution, ELU, causal convolution and gate, added to the input."""

    def __init__(self, config: PixelSNAILConfig) -> None:
        super().__init__()
        width = config.width
        self.first = CausalConv(width, width, config.reach)
        self.dropout = nn.Dropout2d(config.dropout)
        self.second = CausalConv(width, 2 * width, config.reach)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, width, rows, cols) to the same shape."""
        hidden = self.first(F.elu(x))
        return x + gate(self.second(self.dropout(F.elu(hidden))))


class CausalAttention(nn.Module):
    """Every cell attends to itself and to all cells before it; two channels have its position.

    Keys, queries and values are computed from features that depend only on the codes strictly
    before their own cell. So a cell that attends to itself does not see its own code.
    """

    def __init__(self, config: PixelSNAILConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.project = nn.Conv2d(width + 2, 3 * width, 1)
        self.skip = nn.Conv2d(width, width, 1)
        self.attended = nn.Conv2d(width, width, 1)
        self.second = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor, background: Tensor) -> Tensor:
        """Features (batch, width, rows, cols) to the same shape; background (1, 2, rows, cols)."""
        query, key, value = self.heads(x, background)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.merge(x, mixed.transpose(2, 3).reshape(x.shape))

    def heads(self, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (batch, heads, cells, channels of a head)."""
        batch, _, rows, cols = x.shape
        placed = torch.cat([x, background.to(x.dtype).expand(batch, -1, -1, -1)], 1)
        split = self.project(placed).view(batch, 3, self.num_heads, -1, rows * cols)
        query, key, value = split.transpose(3, 4).unbind(1)
        return query, key, value

    def merge(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add the result of the attention to the input, both (batch, width, rows, cols)."""
        hidden = F.elu(self.skip(F.elu(x)) + self.attended(F.elu(mixed)))
        return x + gate(self.second(hidden))


class PixelSNAIL(nn.Module):
    """Computes the logits of every code at every cell from the codes before the cell."""

    background: Tensor
    place_bias: Tensor | None  # (codes, rows, cols); logits of every code at every place

    def __init__(self, config: PixelSNAILConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.width, config.latent_size
        bias = torch.zeros(config.num_codes, size, size) if config.place_bias else None
        self.register_buffer("place_bias", bias)
        self.embedding = nn.Embedding(config.num_codes, width)
        self.input = CausalConv(width, width, config.input_reach, strict=True)
        self.residuals = nn.ModuleList(GatedResidual(config) for _ in range(config.num_stages))
        self.attentions = nn.ModuleList(CausalAttention(config) for _ in range(config.num_stages))
        self.output = nn.Sequential(
            nn.ELU(), nn.Conv2d(width, width, 1), nn.ELU(), nn.Conv2d(width, config.num_codes, 1)
        )
        place = torch.linspace(-1, 1, config.latent_size)
        down, across = torch.meshgrid(place, place, indexing="ij")
        self.register_buffer("background", torch.stack([down, across])[None], persistent=False)

    def forward(self, codes: Codes) -> Logits:
        """Compute the logits of whole maps."""
        x = self.input(self.embedding(codes).movedim(-1, 1))
        for residual, attention in zip(self.residuals, self.attentions, strict=True):
            x = attention(residual(x), self.background)
        return self.biased(self.output(x))

    def biased(self, logits: Logits) -> Logits:
        """Add the bias of each place, if the prior has one."""
        return logits if self.place_bias is None else logits + self.place_bias

    @torch.no_grad()
    def start_at(self, maps: Codes) -> None:
        """Start at the histogram of codes at each place of these maps (num, rows, cols).

        The last layer's weights become zero, so that before the first step the likelihoods are
        those of the histogram. A place borrows the mean histogram as if it had seen it once, for
        the codes that it has not seen itself.
        """
        if self.place_bias is None:
            return
        self.place_bias.copy_(place_histogram(maps, self.config.num_codes).log())
        last = cast(nn.Conv2d, self.output[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))

    def loss(self, codes: Codes) -> Tensor:
        """Mean negative log-likelihood per code in nats (eq. 4), computed in float32."""
        return F.cross_entropy(self(codes).float(), codes)


def place_histogram(maps: Codes, num_codes: int) -> Tensor:
    """Share of each code at each place, (codes, rows, cols), smoothed so that none is zero.

    A place counts the mean over all places as one more map, and that mean a uniform code.
    """
    counts = F.one_hot(maps.flatten(1), num_codes).sum(0).T.float()
    broad = counts.sum(1, keepdim=True) + 1
    smoothed = (counts + broad / broad.sum()) / (len(maps) + 1)
    return smoothed.view(num_codes, *maps.shape[1:])
