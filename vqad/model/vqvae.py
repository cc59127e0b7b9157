"""The VQ-VAE: pictures to a small map of codes and back (section 3.1, eq. 1 to 3, and 4.3.2).

A strided encoder, a nearest-neighbour lookup in a codebook, and the mirrored decoder. It is
meant to reconstruct anything well, defects included; telling normal from not is the prior's work.
As the paper writes it, the codebook collapses onto a few codes; the rule that keeps it in use
(k-means, moving averages, restarts) is the default here, the paper's is the option ``gradient``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from vqad.array_types import Codes, Images, Latents

# Guesses, far above the paper's: the most that a detector on storage may ask for.
LARGEST_SIZES: Final = {
    "image_size_px": 4096,
    "latent_size": 256,
    "num_codes": 2**16,
    "code_dim": 1024,
    "width": 1024,
    "residual_width": 1024,
    "num_residual_blocks": 64,
}


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig:
    """Sizes of the network and how its codebook learns. Defaults are the paper's (4.3.2)."""

    image_size_px: int = 256
    latent_size: int = 32  # cells a side of the code map
    num_codes: int = 512  # K
    code_dim: int = 32  # D
    width: int = 128  # channels of every convolution; the paper gives none
    residual_width: int = 32  # channels inside a residual block
    num_residual_blocks: int = 8  # each side
    commitment: float = 0.25  # beta of eq. 3
    codebook: Literal["moving_average", "gradient"] = "moving_average"
    decay: float = 0.99  # of the moving averages, a step
    restart_below: float = 0.03  # share of an even split of a batch under which a code restarts

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
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
        for name in ("decay", "restart_below"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.codebook not in ("moving_average", "gradient"):
            raise ValueError(f"codebook must be moving_average or gradient, got {self.codebook}")

    @property
    def num_halvings(self) -> int:
        """How many stride-2 convolutions take an image to its latents."""
        return (self.image_size_px // self.latent_size).bit_length() - 1

    @property
    def cell_area_px(self) -> int:
        """Pixels of the model's input that one latent cell covers."""
        return (self.image_size_px // self.latent_size) ** 2


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 1x1, added to what came in (4.3.2)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, inner, 3, padding=1)
        self.merge = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, width, rows, cols) to as many."""
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
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(config.num_halvings):
        layers += [nn.Conv2d(channels, config.width, 4, stride=2, padding=1), nn.ReLU()]
        channels = config.width
    layers.append(nn.Conv2d(channels, config.width, 3, padding=1))
    layers += [
        Residual(config.width, config.residual_width) for _ in range(config.num_residual_blocks)
    ]
    layers += [nn.ReLU(), nn.Conv2d(config.width, config.code_dim, 1)]
    return nn.Sequential(*layers)


def _decoder(config: VQVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(config.code_dim, config.width, 3, padding=1)]
    layers += [
        Residual(config.width, config.residual_width) for _ in range(config.num_residual_blocks)
    ]
    for left in reversed(range(config.num_halvings)):
        channels = config.width if left else 3
        layers += [nn.ReLU(), Upsample(config.width, channels)]
    return nn.Sequential(*layers)


class Codebook(nn.Module):
    """K vectors of D numbers, and the running counts from which they are learned."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        vectors = torch.randn(config.num_codes, config.code_dim)
        if config.codebook == "gradient":
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.ones(config.num_codes))
        self.register_buffer("sums", vectors.clone())

    @torch.no_grad()
    def nearest(self, latents: Latents) -> Codes:
        """Index of the nearest vector of each cell (eq. 1), in float32 whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            flat = latents.float().movedim(1, -1).flatten(0, 2)
            vectors = self.vectors.float()
            # The squared norm of the latent is the same for every code, so it is left out.
            distances = torch.addmm(vectors.square().sum(1), flat, vectors.T, alpha=-2)
            codes = distances.argmin(1)
        batch, _, rows, cols = latents.shape
        return codes.view(batch, rows, cols)

    def lookup(self, codes: Codes) -> Latents:
        """Vectors of the codes (eq. 2)."""
        return F.embedding(codes, self.vectors).movedim(-1, 1)

    @torch.no_grad()
    def start(self, latents: Latents, generator: torch.Generator) -> None:
        """Put the vectors on the k-means centres of these latents."""
        flat = latents.float().movedim(1, -1).flatten(0, 2)
        centres, counts = kmeans(flat, self.config.num_codes, generator)
        self.vectors.copy_(centres)
        # As if the averages had always seen this batch.
        self.counts.copy_(counts)
        self.sums.copy_(centres * counts[:, None])

    @torch.no_grad()
    def learn(
        self,
        latents: Latents,
        codes: Codes,
        generator: torch.Generator,
        all_reduce: Callable[[Tensor], None] = lambda _: None,
        broadcast: Callable[[Tensor], None] = lambda _: None,
    ) -> None:
        """Move the averages one step towards these latents, and restart codes out of use.

        ``all_reduce`` sums a tensor over the workers in place, and ``broadcast`` overwrites it with
        the first worker's: all then hold the same averages and restart the same codes.
        """
        flat = latents.float().movedim(1, -1).flatten(0, 2)
        one_hot = F.one_hot(codes.flatten(), self.config.num_codes).to(flat.dtype)
        counts, sums = one_hot.sum(0), one_hot.T @ flat
        candidates = _pick(flat, self.config.num_codes, generator)
        for tensor in (counts, sums):
            all_reduce(tensor)
        decay = self.config.decay
        self.counts.mul_(decay).add_(counts, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums, alpha=1 - decay)
        even_share = counts.sum() / self.config.num_codes
        idle = self.counts < self.config.restart_below * even_share
        # The workers' candidates differ, and a mean over them would be a latent of no image.
        broadcast(candidates)
        self._restart(idle, candidates, even_share)
        self.vectors.copy_(self.sums / self.counts[:, None])

    def _restart(self, idle: Tensor, candidates: Tensor, even_share: Tensor) -> None:
        self.counts.copy_(torch.where(idle, even_share, self.counts))
        self.sums.copy_(torch.where(idle[:, None], candidates * even_share, self.sums))


def _pick(rows: Tensor, num: int, generator: torch.Generator) -> Tensor:
    picked = torch.randint(len(rows), (num,), generator=generator)
    return rows[picked.to(rows.device)]


def kmeans(
    points: Tensor, num_centres: int, generator: torch.Generator, num_rounds: int = 20
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm: (num, dim) points to centres and how many points each has.

    A centre that loses all its points moves onto a random point.
    """
    centres = _pick(points, num_centres, generator)
    counts = torch.zeros(num_centres, device=points.device)
    for _ in range(num_rounds):
        distances = torch.addmm(centres.square().sum(1), points, centres.T, alpha=-2)
        nearest = distances.argmin(1)
        counts = torch.bincount(nearest, minlength=num_centres).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        empty = (counts == 0)[:, None]
        means = sums / counts.clamp(min=1)[:, None]
        centres = torch.where(empty, _pick(points, num_centres, generator), means)
    return centres, counts.clamp(min=1)


class Reconstruction(NamedTuple):
    """What a training step needs of one forward pass."""

    decoded: Tensor  # (batch, 3, height, width), RGB in [-1, 1] or a little beyond
    latents: Latents
    codes: Codes | None  # None where the lookup was left out
    quantised: Latents


class VQVAE(nn.Module):
    """Encoder, codebook and decoder. Images come in and go out in [0, 1]."""

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
        """Codes z of the images."""
        return self.codebook.nearest(self.encoder(images * 2 - 1))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Images:
        """Images of the codes, clamped to [0, 1]."""
        decoded: Tensor = self.decoder(self.codebook.lookup(codes))
        return ((decoded.float() + 1) / 2).clamp(0, 1)
