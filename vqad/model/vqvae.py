"""The VQ-VAE: images to a small map of codes and back (section 3.1, eq. 1 to 3, and 4.3.2).

A strided encoder, a nearest-neighbour lookup in a codebook, and the mirrored decoder. It is
meant to reconstruct every image well, defects included: the prior decides what is normal.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from vqad.array_types import Codes, Images, Latents
from vqad.model.codebook import Codebook, CodebookConfig
from vqad.model.finite import check_finite

# The largest sizes that a detector on storage may ask for (guesses, far above the paper's).
LARGEST_SIZES: Final = {
    "image_size_px": 4096,
    "latent_size": 256,
    "width": 1024,
    "residual_width": 1024,
    "num_residual_blocks": 64,
}


BLOCK_PX: Final = 4  # side of the blocks of pixels of the stem pixel_blocks


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig(CodebookConfig):
    """Sizes of the network and of its codebook. Defaults are the paper's (4.3.2)."""

    image_size_px: int = 256
    latent_size: int = 32  # cells on each side of the code map
    width: int = 128  # channels of every convolution; the paper does not say
    residual_width: int = 32  # channels inside a residual block
    num_residual_blocks: int = 8  # of the encoder, and of the decoder
    commitment: float = 0.25  # beta of eq. 3
    # What lies between the pixels and the residual blocks: the paper's strided convolutions, or
    # blocks of 4x4 pixels as channels, which spend no arithmetic at full resolution.
    stem: Literal["convolutions", "pixel_blocks"] = "convolutions"

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have."""
        super().__post_init__()
        for name, largest in LARGEST_SIZES.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in [1, {largest}], got {getattr(self, name)}")
        if self.num_halvings < 1 or self.latent_size << self.num_halvings != self.image_size_px:
            raise ValueError(
                f"image_size_px must be latent_size times 2, 4, 8, ..., "
                f"got {self.image_size_px} and {self.latent_size}"
            )
        if not 0 <= self.commitment < math.inf:
            raise ValueError(f"commitment must be finite and not negative, got {self.commitment}")
        if self.stem == "pixel_blocks" and self.image_size_px < BLOCK_PX * self.latent_size:
            raise ValueError(
                f"the stem pixel_blocks needs cells of at least {BLOCK_PX} pixels a side, got "
                f"{self.image_size_px // self.latent_size}"
            )

    @property
    def num_halvings(self) -> int:
        """Number of stride-2 convolutions from an image to its latents."""
        return (self.image_size_px // self.latent_size).bit_length() - 1

    @property
    def cell_area_px(self) -> int:
        """Pixels of the model's input that one latent cell covers."""
        return (self.image_size_px // self.latent_size) ** 2


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 1x1, added to the input (4.3.2)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, inner, 3, padding=1)
        self.merge = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, width, rows, cols) to the same shape."""
        return x + self.merge(F.relu(self.spread(F.relu(x))))


class _Deconvolution(torch.autograd.Function):
    """A transposed convolution whose gradients are those of the convolution it transposes.

    The same sums in other kernels: PyTorch's own for a transposed convolution in bfloat16 are slow
    on a CPU. Forwards and backwards of 16 maps of 128 x 64 x 64 to 128 x 128 x 128 took 187 ms of
    one thread in place of 438 (a Xeon with AMX, torch 2.13).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x = F.conv2d(grad, weight, stride=2, padding=1)
        of_weight = conv2d_weight(grad, weight.shape, x, stride=2, padding=1)
        return of_x, of_weight, grad.sum((0, 2, 3))


class Upsample(nn.ConvTranspose2d):
    """A transposed convolution, kernel 4, stride 2: twice the rows and columns."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Features (batch, channels, rows, cols) to (batch, out, 2 rows, 2 cols)."""
        assert output_size is None
        device = x.device.type
        if device != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        weight, bias = self.weight.to(dtype), cast(Tensor, self.bias).to(dtype)
        return cast(Tensor, _Deconvolution.apply(x.to(dtype), weight, bias))


def _encoder(config: VQVAEConfig) -> nn.Sequential:
    return nn.Sequential(
        *(_halvings(config) if config.stem == "convolutions" else _blocks_in(config)),
        nn.Conv2d(config.width, config.width, 3, padding=1),
        *_residuals(config),
        nn.ReLU(),
        nn.Conv2d(config.width, config.code_dim, 1),
    )


def _decoder(config: VQVAEConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(config.code_dim, config.width, 3, padding=1),
        *_residuals(config),
        *(_doublings(config) if config.stem == "convolutions" else _blocks_out(config)),
    )


def _residuals(config: VQVAEConfig) -> list[nn.Module]:
    return [
        Residual(config.width, config.residual_width) for _ in range(config.num_residual_blocks)
    ]


def _halvings(config: VQVAEConfig) -> Iterator[nn.Module]:
    channels = 3
    for _ in range(config.num_halvings):
        yield nn.Conv2d(channels, config.width, 4, stride=2, padding=1)
        yield nn.ReLU()
        channels = config.width


def _doublings(config: VQVAEConfig) -> Iterator[nn.Module]:
    for left in reversed(range(config.num_halvings)):
        yield nn.ReLU()
        yield Upsample(config.width, config.width if left else 3)


def _blocks_in(config: VQVAEConfig) -> Iterator[nn.Module]:
    """Blocks of 4x4 pixels to half of the width, and the halvings that are left to the width."""
    yield nn.PixelUnshuffle(BLOCK_PX)
    num_left = config.num_halvings - 2
    channels = config.width // 2 if num_left else config.width
    yield nn.Conv2d(3 * BLOCK_PX**2, channels, 3, padding=1)
    yield nn.ReLU()
    for _ in range(num_left):
        yield nn.Conv2d(channels, config.width, 4, stride=2, padding=1)
        yield nn.ReLU()
        channels = config.width


def _blocks_out(config: VQVAEConfig) -> Iterator[nn.Module]:
    """The mirror of `_blocks_in`; pixels are shuffled out of channels in place of Upsample."""
    channels, half = config.width, config.width // 2
    yield nn.ReLU()
    for _ in range(config.num_halvings - 2):
        yield nn.Conv2d(channels, 4 * half, 1)
        yield nn.PixelShuffle(2)
        yield nn.Conv2d(half, half, 3, padding=1)
        yield nn.ReLU()
        channels = half
    yield nn.Conv2d(channels, 3 * BLOCK_PX**2, 3, padding=1)
    yield nn.PixelShuffle(BLOCK_PX)


class Reconstruction(NamedTuple):
    """The results of a forward pass that a training step needs."""

    decoded: Tensor  # (batch, 3, height, width), RGB in [-1, 1] or a little beyond
    latents: Latents
    codes: Codes | None  # None if the lookup was left out
    quantised: Latents


class VQVAE(nn.Module):
    """Encoder, codebook and decoder, for images in [0, 1]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.codebook = Codebook(config)
        self.decoder = _decoder(config)

    def forward(self, images: Images, lookup: bool = True) -> Reconstruction:
        """Reconstruct, with gradients passed straight through the lookup.

        Without the lookup it is a plain autoencoder: the warm-up before the codebook starts.
        """
        latents = self.encoder(images * 2 - 1).float()
        if not lookup:
            return Reconstruction(self.decoder(latents), latents, None, latents)
        codes = self.codebook.nearest(latents)
        quantised = self.codebook.lookup(codes)
        straight = latents + (quantised - latents).detach()
        return Reconstruction(self.decoder(straight), latents, codes, quantised)

    def loss(self, images: Images, out: Reconstruction) -> Tensor:
        """Eq. 3 with every norm squared and averaged, on images in [-1, 1]."""
        with torch.autocast(images.device.type, enabled=False):
            loss = F.mse_loss(out.decoded.float(), images.float() * 2 - 1)
            if out.codes is not None:
                loss = loss + self.config.commitment * F.mse_loss(
                    out.latents, out.quantised.detach()
                )
                if self.config.codebook == "gradient":
                    loss = loss + F.mse_loss(out.quantised, out.latents.detach())
        return loss

    @torch.no_grad()
    def encode(self, images: Images) -> Codes:
        """Codes z of the images. Raises NotFiniteError if the latents are not finite."""
        latents = self.encoder(images * 2 - 1)
        check_finite("the latents of the encoder", latents)
        return self.codebook.nearest(latents)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Images:
        """Images of the codes, clamped to [0, 1]. Raises NotFiniteError if they are not finite."""
        decoded: Tensor = self.decoder(self.codebook.lookup(codes))
        check_finite("the decodings", decoded)  # here, because clamping would hide infinity
        return ((decoded.float() + 1) / 2).clamp(0, 1)
