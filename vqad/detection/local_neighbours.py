"""Distance of features to their nearest neighbours among normal images, near the same place.

Two metrics see different defects. L measures in features whitened over all places, so that each
direction counts by how much it varies over the whole product. M measures in the metric of the
place (`local_gaussian`), where a small difference counts if normal images never differ there.

    d(q, b)^2 = (q - b) P (q - b) = q P q - 2 (P q) b + b P b

The last term of the bank's features does not depend on the image, so it is computed once, and an
image costs a matrix product at each place.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from vqad.detection.local_gaussian import LocalGaussian, over_places

# A product moves by some cells between images, so a place is compared with those around it.
_STEPS: Final = (-2, 0, 2)
_WHITENING_FLOOR: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class LocalNeighbours:
    """Features of normal images at each place, and the two metrics."""

    to_white: Float32[Tensor, "channels channels"]  # white = features @ to_white
    bank: Float32[Tensor, "rows cols channels num"]  # white
    precision: Float32[Tensor, "rows cols channels channels"]  # of white features

    @cached_property
    def _lengths(self) -> Tensor:
        return self.bank.square().sum(2)

    @cached_property
    def _local_lengths(self) -> dict[tuple[int, int], Tensor]:
        """Lengths b P b of the bank's features, seen from the place (down, right) away."""
        return {
            (down, right): _length(self.bank[there], self.precision[here])
            for down in _STEPS
            for right in _STEPS
            for here, there in (_overlap(self.bank.shape, down, right),)
        }

    @torch.inference_mode()
    def distances(
        self, features: Float32[Tensor, "batch rows cols channels"]
    ) -> tuple[Float32[Tensor, "batch rows cols"], Float32[Tensor, "batch rows cols"]]:
        """Distances L and M of each place of some images."""
        white = (features @ self.to_white).permute(1, 2, 0, 3).contiguous()
        local = white @ self.precision
        lengths = white.square().sum(-1), (white * local).sum(-1)
        nearest = self._nearest(-2 * white, -2 * local)
        both = (
            (length + least).clamp(min=0).sqrt()
            for length, least in zip(lengths, nearest, strict=True)
        )
        white_distance, local_distance = (each.permute(2, 0, 1) for each in both)
        return white_distance, local_distance

    def _nearest(self, white: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.full((2, *white.shape[:3]), torch.inf, device=white.device)
        # On a CPU one row at a time stays in its cache; on a GPU calls take the time.
        parts = _all_at_once if white.is_cuda else torch.unbind
        for (down, right), local_lengths in self._local_lengths.items():
            here, there = _overlap(self.bank.shape, down, right)
            grids = self.bank[there], white[here], self._lengths[there], local[here], local_lengths
            both = [
                (_least(in_white, lengths, bank), _least(in_local, in_local_lengths, bank))
                for bank, in_white, lengths, in_local, in_local_lengths in zip(
                    *map(parts, grids), strict=True
                )
            ]
            for whole, least in zip(found, zip(*both, strict=True), strict=True):
                nearest = whole[here]
                torch.minimum(nearest, torch.cat(least).view(nearest.shape), out=nearest)
        return found[0], found[1]


def _all_at_once(grid: Tensor) -> tuple[Tensor]:
    """One part with all places of a grid (rows, cols, ...), in place of one for each row."""
    return (grid.flatten(0, 1),)


def _least(
    queries: Float32[Tensor, "places batch channels"],
    lengths: Float32[Tensor, "places num"],
    bank: Float32[Tensor, "places channels num"],
) -> Float32[Tensor, "places batch"]:
    return torch.baddbmm(lengths[:, None], queries, bank).amin(-1)


def fit_neighbours(
    features: Float32[Tensor, "num rows cols channels"],
    gaussian: LocalGaussian,
    counted: Bool[Tensor, "num rows cols"] | None = None,
) -> LocalNeighbours:
    """Keep the features of some normal images as the bank; some places may not count."""
    flat = features.flatten(0, 2) / gaussian.deviation
    some = over_places(features, counted) / gaussian.deviation
    values, vectors = torch.linalg.eigh(
        torch.cov(some.T) + _WHITENING_FLOOR * torch.eye(flat.shape[1])
    )
    whitening = vectors / values.sqrt()
    back = torch.linalg.inv(whitening)
    white = (flat @ whitening).view(features.shape)
    return LocalNeighbours(
        to_white=whitening / gaussian.deviation[:, None],
        bank=white.permute(1, 2, 3, 0).contiguous(),
        precision=back @ gaussian.precision @ back.mT,
    )


def _overlap(
    shape: torch.Size, down: int, right: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Places whose place moved by (down, right) lies inside the grid, and the moved places."""
    here = tuple(
        slice(max(0, -step), min(size, size - step))
        for step, size in zip((down, right), shape[:2], strict=True)
    )
    there = tuple(
        slice(part.start + step, part.stop + step)
        for part, step in zip(here, (down, right), strict=True)
    )
    return (here[0], here[1]), (there[0], there[1])


def _length(bank: Tensor, precision: Tensor) -> Tensor:
    return (bank * (precision @ bank)).sum(2)
