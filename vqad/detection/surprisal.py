"""The surprisal of the codes under the prior, which the joined form adds to the paper's map.

The paper's map (eq. 6) shows a defect only if resampling changes the picture, and only as much as
its colours change: a scratch that is restored in nearly its own grey hardly shows. The prior has
more information. The surprisal of a code is its negative log-likelihood. Its excess over the usual
surprisal of normal images at that place enters two maps:

- the broad map: smoothed, and bounded by -log(eta), the surprisal of a code that the paper calls
  improbable; its mean with the paper's map fills large defects;
- the fine map: hardly smoothed, and bounded by twice that; it finds defects of one or two codes.

    broad = (difference + unit * broad excess) / 2,  fine = unit * fine excess / 2
    anomaly_map = max(broad, fine_share * fine),     unit = 441.7 grey levels / -log(eta)

So each is between 0 and the largest difference of two colours. `fine_share` makes the largest
score of held-out normal images equal in both, so that neither hides the other.

A prior sees only the codes before a cell. So its surprisal is high where a defect begins and falls
inside it. If an image turned by 180 degrees is a normal image, too (section 4.3.1), the prior also
reads the turned image, which gives the surprisal from the other end.

This is not in the paper. vqad/README.md has measurements; the form `plain` works without it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from vqad.array_types import AnomalyMap, Likelihood
from vqad.images.placement import Places, SomePlaces
from vqad.model.kinds import Kind, nth_symmetry, variations

Form = Literal["plain", "joined", "full"]

Surprisal = Float32[ndarray, "readings rows cols"]  # nats, each in [0, -2 log eta]
CellMap = Float32[ndarray, "rows cols"]  # nats
CellMaps = Float32[ndarray, "num rows cols"]  # nats

LARGEST_DIFFERENCE: Final = 255 * math.sqrt(3)  # of two colours, in grey levels
HALF_TURN: Final = 2  # number of the rotation by 180 degrees, see `nth_symmetry`

# Sigmas of Gaussians, as shares of the map's side. Chosen by the labelled test images of bottle
# and magnetic tile (vqad/README.md), at 32 cells a side.
_BROAD: Final = 1.6 / 32
_FINE: Final = 0.5 / 32
_USUAL: Final = 1.5 / 32
_LEAST_NUMBER: Final = 1e-6  # of images around a cell; far from all that count there is none


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The usual surprisal of a category's normal images."""

    broad: list[list[float]]  # nats per cell, of surprisal bounded by -log eta
    fine: list[list[float]]  # nats per cell, of surprisal bounded by -2 log eta
    fine_share: float = 1.0  # weight of the fine map, in (0, 1]

    def __post_init__(self) -> None:
        """Refuse values that no map can be made with."""
        if not 0 < self.fine_share <= 1:
            raise ValueError(f"fine_share must be in (0, 1], got {self.fine_share}")
        for name, rows in (("broad", self.broad), ("fine", self.fine)):
            if {len(row) for row in rows} != {len(rows)} or not np.isfinite(rows).all():
                raise ValueError(f"usual {name} must be as many rows as columns of finite nats")


def unknown(size: int) -> Usual:
    """No usual surprisal, for maps with ``size`` cells on each side: before calibration."""
    nothing = [[0.0] * size] * size
    return Usual(broad=nothing, fine=nothing)


def readings(kind: Kind) -> tuple[int, ...]:
    """The symmetries in which the prior reads an image; each gives an image that is normal, too."""
    return (0,) if kind == "object" else (0, HALF_TURN)


def surprisal(likelihoods: Sequence[Likelihood], kind: Kind, *, eta: float) -> list[Surprisal]:
    """Surprisal of each code of a batch in every reading, in nats, bounded by -2 log eta.

    ``likelihoods`` are those of the ``readings``, or of the first alone, each in the orientation of
    its reading.
    """
    upright = [
        # Rotation by 180 degrees, or by 0, is its own inverse.
        nth_symmetry(-torch.log(each.float().clamp(min=eta**2)), n)
        for each, n in zip(likelihoods, readings(kind)[: len(likelihoods)], strict=True)
    ]
    return list(torch.stack(upright, 1).cpu().numpy())


def usual(
    surprisals: Sequence[Surprisal], kind: Kind, *, eta: float, cells: SomePlaces | None = None
) -> Usual:
    """The usual surprisal of each cell of normal images, with a weight of 1 for the fine map.

    ``cells`` are those that count of each image, None for all.
    """
    broad, fine = (
        _smoothed_mean([each(one) for one in surprisals], kind, cells).tolist()
        for each in (lambda one: _broad(one, eta), _fine)
    )
    return Usual(broad=broad, fine=fine)


def _smoothed_mean(cells: Sequence[CellMap], kind: Kind, counted: SomePlaces | None) -> CellMap:
    if counted is not None:
        return _smoothed_mean_of(np.stack(cells), kind, counted)
    # For a texture it is the same everywhere; for a rotatable object, the same in every rotation.
    mean = np.mean(cells, axis=0, dtype=np.float32)
    if kind == "texture":
        return np.full_like(mean, mean.mean())
    turned = torch.from_numpy(mean)
    every = [nth_symmetry(turned, n) for n in range(variations(kind) or 1)]
    return _smooth(torch.stack(every).mean(0).numpy(), _USUAL)


def _smoothed_mean_of(cells: CellMaps, kind: Kind, counted: SomePlaces) -> CellMap:
    """The same over the cells that count: sum and number are smoothed alike, and divided then."""
    if kind == "texture":
        return np.full_like(cells[0], cells[counted].mean())
    parts = np.where(counted, cells, 0).sum(0, dtype=np.float32), counted.sum(0, dtype=np.float32)
    turns = range(variations(kind) or 1)
    total, number = (
        _smooth(
            torch.stack([nth_symmetry(torch.from_numpy(each), n) for n in turns]).mean(0).numpy(),
            _USUAL,
        )
        for each in parts
    )
    return np.where(number > 0, total / np.maximum(number, _LEAST_NUMBER), np.float32(0))


def joined(
    difference: AnomalyMap,
    surprisal: Surprisal,
    expected: Usual,
    *,
    eta: float,
    cells: Places | None = None,
) -> AnomalyMap:
    """Join the paper's map with both maps of the surprisal, in grey levels."""
    broad = broad_map(difference, surprisal, expected, eta=eta, cells=cells)
    fine = fine_map(surprisal, expected, eta=eta, size_px=difference.shape[0], cells=cells)
    return np.maximum(broad, np.float32(expected.fine_share) * fine)


def joined_maps(
    differences: Sequence[AnomalyMap],
    surprisals: Sequence[Surprisal],
    expected: Usual,
    eta: float,
    cells: SomePlaces | None = None,
) -> list[AnomalyMap]:
    """The joined map of each image; ``cells`` are those that count of each, None for all."""
    some = [None] * len(differences) if cells is None else cells
    return [
        joined(difference, each, expected, eta=eta, cells=counted)
        for difference, each, counted in zip(differences, surprisals, some, strict=True)
    ]


def broad_map(
    difference: AnomalyMap,
    surprisal: Surprisal,
    expected: Usual,
    *,
    eta: float,
    cells: Places | None = None,
) -> AnomalyMap:
    """The mean of the paper's map and the smoothed surprisal, in grey levels."""
    beyond = _broad(surprisal, eta) - np.array(expected.broad, np.float32)
    excess = _smooth(_counted(beyond, cells), _BROAD)
    return (difference + _grey(excess, eta, difference.shape[0])) / 2


def fine_map(
    surprisal: Surprisal,
    expected: Usual,
    *,
    eta: float,
    size_px: int,
    cells: Places | None = None,
) -> AnomalyMap:
    """The fine map of the surprisal, in grey levels, before it is multiplied by its share."""
    return _grey(excess(surprisal, expected, cells), eta, size_px) / 2


def excess(surprisal: Surprisal, expected: Usual, cells: Places | None = None) -> CellMap:
    """Surprisal beyond the usual at each cell, hardly smoothed, in nats.

    Cells that don't count, where ``cells`` is False, have none.
    """
    beyond = _fine(surprisal) - np.array(expected.fine, np.float32)
    return _smooth(_counted(beyond, cells), _FINE)


def _counted(beyond: CellMap, cells: Places | None) -> CellMap:
    return beyond if cells is None else np.where(cells, beyond, np.float32(0))


def _broad(surprisal: Surprisal, eta: float) -> CellMap:
    return np.minimum(surprisal, np.float32(-math.log(eta))).mean(0)


def _fine(surprisal: Surprisal) -> CellMap:
    return surprisal.mean(0)


def _smooth(cells: CellMap, share: float) -> CellMap:
    sigma = share * cells.shape[1]
    return cv2.GaussianBlur(cells, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).astype(np.float32)


def _grey(excess: CellMap, eta: float, size_px: int) -> AnomalyMap:
    grey = excess.clip(0) * np.float32(LARGEST_DIFFERENCE / -math.log(eta))
    return cv2.resize(grey, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
