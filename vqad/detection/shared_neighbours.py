"""Distance of features to their nearest neighbours among normal images, wherever these lie.

A tile may show any part of a product, so its places can't be compared with those of other tiles at
the same place, as `local_neighbours` does. Here all places share one bank. Half of it are random
features of normal images, so that what is frequent is dense. The other half are those farthest from
all before, so that what is rare, as an edge, is there.

Two metrics see different defects, as there. L is whitened over all features. M is whitened by how
features differ from their nearest neighbour in the bank: a small difference counts in a direction
in which normal features never differ from each other.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Float32
from torch import Tensor

# Guesses. A bank of this size costs about twice the time of that by place.
MOST_SHARED: Final = 2048  # features in the bank
_CANDIDATES: Final = 40_000  # features that the bank is chosen from
_COMPARED: Final = 20_000  # features whose neighbours give the metric M
_AT_ONCE: Final = 1024  # places whose distances to the bank are in memory
_SMALLEST_DEVIATION: Final = 3e-4
_WHITENING_FLOOR: Final = 0.02
_SHRINKAGE: Final = 0.05
_FLOOR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class SharedNeighbours:
    """Features of normal images at any place, and the two metrics."""

    to_white: Float32[Tensor, "channels channels"]  # white = features @ to_white
    bank: Float32[Tensor, "1 1 channels num"]  # white
    precision: Float32[Tensor, "1 1 channels channels"]  # of white features

    @cached_property
    def _lengths(self) -> tuple[Tensor, Tensor]:
        bank = self.bank[0, 0]
        return bank.square().sum(0), (bank * (self.precision[0, 0] @ bank)).sum(0)

    @torch.inference_mode()
    def distances(
        self, features: Float32[Tensor, "batch rows cols channels"]
    ) -> tuple[Float32[Tensor, "batch rows cols"], Float32[Tensor, "batch rows cols"]]:
        """Distances L and M of each place of some images."""
        white = features.flatten(0, 2) @ self.to_white
        local = white @ self.precision[0, 0]
        lengths = white.square().sum(-1), (white * local).sum(-1)
        both = (
            (length + _nearest(-2 * query, self.bank[0, 0], of_bank)).clamp(min=0).sqrt()
            for query, length, of_bank in zip((white, local), lengths, self._lengths, strict=True)
        )
        white_distance, local_distance = (each.view(features.shape[:3]) for each in both)
        return white_distance, local_distance


def _nearest(queries: Tensor, bank: Tensor, lengths: Tensor) -> Float32[Tensor, " places"]:
    return torch.cat(
        [torch.addmm(lengths[None], some, bank).amin(1) for some in queries.split(_AT_ONCE)]
    )


def fit_shared(
    features: Float32[Tensor, "num rows cols channels"], *, seed: int
) -> SharedNeighbours:
    """Keep some features of normal images as the bank, and measure both metrics."""
    flat = features.flatten(0, 2)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(flat), generator=generator)[: _CANDIDATES + _COMPARED]
    to_white = _whitening(flat)
    white = flat[order] @ to_white
    bank = _chosen(white[:_CANDIDATES])
    compared = white[_CANDIDATES:] if len(white) > _CANDIDATES else white
    return SharedNeighbours(
        to_white=to_white,
        bank=bank.T[None, None].contiguous(),
        precision=_metric(compared, bank)[None, None],
    )


def _whitening(flat: Float32[Tensor, "places channels"]) -> Tensor:
    deviation = flat.std(0).clamp(min=_SMALLEST_DEVIATION)
    covariance = torch.cov((flat / deviation).T)
    values, vectors = torch.linalg.eigh(covariance + _WHITENING_FLOOR * torch.eye(len(covariance)))
    return vectors / values.sqrt() / deviation[:, None]


def _chosen(white: Float32[Tensor, "places channels"]) -> Float32[Tensor, "num channels"]:
    """The first ones, which are random, and as many that lie farthest from all before."""
    num_random = min(MOST_SHARED // 2, len(white))
    rest, chosen = white[num_random:], [white[:num_random]]
    least = _to_nearest(rest, chosen[0])
    for _ in range(min(MOST_SHARED - num_random, len(rest))):
        farthest = rest[least.argmax()]
        chosen.append(farthest[None])
        least = torch.minimum(least, (rest - farthest).square().sum(1))
    return torch.cat(chosen)


def _to_nearest(white: Tensor, bank: Tensor) -> Float32[Tensor, " places"]:
    squares = _nearest(-2 * white, bank.T.contiguous(), bank.square().sum(1))
    return squares + white.square().sum(1)


def _metric(
    white: Float32[Tensor, "places channels"], bank: Float32[Tensor, "num channels"]
) -> Float32[Tensor, "channels channels"]:
    """The inverse covariance of differences of features and their nearest neighbours."""
    lengths = bank.square().sum(1)
    nearest = [
        torch.addmm(lengths[None], -2 * some, bank.T).argmin(1) for some in white.split(_AT_ONCE)
    ]
    away = white - bank[torch.cat(nearest)]
    covariance = away.T @ away / len(away)
    ridge = _SHRINKAGE * covariance.diagonal().mean() + _FLOOR
    precision = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)))
    return (precision + precision.mT) / 2
