"""The codebook of the VQ-VAE: the lookup of eq. 1 and 2, and how the vectors are learned.

With the paper's rule (its loss moves the vectors) the codebook collapses onto a few codes. The
default rule keeps it in use: k-means on the encoder's outputs after a warm-up without the lookup,
moving averages from there on, and restarts of codes that fall out of use. The paper's rule is the
option ``gradient``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqad.array_types import Codes, Latents

# The largest sizes that a detector on storage may ask for (guesses, far above the paper's).
LARGEST_SIZES: Final = {"num_codes": 2**16, "code_dim": 1024}


@dataclass(frozen=True, kw_only=True)
class CodebookConfig:
    """Sizes of the codebook and how it learns. Defaults are the paper's (4.3.2)."""

    num_codes: int = 512  # K
    code_dim: int = 32  # D
    codebook: Literal["moving_average", "gradient"] = "moving_average"
    decay: float = 0.99  # of the moving averages, per step
    restart_below: float = 0.03  # a code restarts under this share of an even split of a batch

    def __post_init__(self) -> None:
        """Refuse a codebook that cannot learn."""
        for name, largest in LARGEST_SIZES.items():
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in [1, {largest}], got {getattr(self, name)}")
        for name in ("decay", "restart_below"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.codebook not in ("moving_average", "gradient"):
            raise ValueError(f"codebook must be moving_average or gradient, got {self.codebook}")


class Codebook(nn.Module):
    """K vectors of D numbers, and the running counts from which they are learned."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: CodebookConfig) -> None:
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
        """Index of the nearest vector of each cell (eq. 1), in float32 even under autocast."""
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
