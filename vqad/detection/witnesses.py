"""The witnesses of the form `full`, and how they become one field.

Three things are unusual about a defect: the features of its places (`local_statistics`), its codes
(`surprisal`), and what resampling changed in the picture (the paper's map, `anomaly_map`). Each is
a field over the places of the grid, in a unit of its own. On normal images each has a mean, a
deviation and a usual largest value, by which it is standardised:

    field = sum of weight * (field of the witness - mean) / deviation / largest

so that 1 is the usual largest value of a normal image for every witness. The weights are fixed.
A fourth witness, the segmenter, looks at the form of what local statistics find; a detector that
an older version of this program saved has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection import surprisal
from vqad.detection.local_statistics import SMALLEST_LARGEST, Field, mean_deviation_largest
from vqad.detection.surprisal import CellMap, Surprisal, Usual
from vqad.images.placement import Placement, Places, SomePlaces

LOCAL: Final = "local statistics"
SEGMENTER: Final = "segmenter"
SURPRISAL: Final = "surprisal"
DIFFERENCE: Final = "difference"

# Chosen on seven products (three seeds). The witnesses of codes are the weakest alone, and more
# weight for them lowered the image AUROC. With .5 for local statistics and .4 for the segmenter its
# mean was the same, and the image accuracy .838 in place of .858.
WEIGHTS: Final = {LOCAL: 0.85, SURPRISAL: 0.1, DIFFERENCE: 0.05}
WEIGHTS_WITH_SEGMENTER: Final = {LOCAL: 0.3, SEGMENTER: 0.6, SURPRISAL: 0.05, DIFFERENCE: 0.05}
# Smallest deviations, in the witness's own unit: normal images may all be 0.
_FLOORS: Final = {
    LOCAL: 1e-3,
    SEGMENTER: 1e-2,  # logits
    SURPRISAL: 0.05,  # nats
    # Grey levels. Where resampling leaves nearly all held-out images as they are, they do not say
    # how large a difference is usual: with a floor of 1, one changed code outweighed everything
    # else, and the image AUROC of pill fell from .93 to .87.
    DIFFERENCE: 8.0,
}


@dataclass(frozen=True, kw_only=True)
class Witness:
    """One witness: what is usual of it on normal images, and its weight."""

    name: str
    weight: float
    mean: float
    deviation: float
    largest: float  # usual, of a normal image, in deviations above the mean

    def __post_init__(self) -> None:
        """Refuse what no field can be made with."""
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight of {self.name} must be in (0, 1], got {self.weight}")
        usual = (self.mean, self.deviation, self.largest)
        if not np.isfinite(usual).all() or min(self.deviation, self.largest) <= 0:
            raise ValueError(
                f"mean, deviation and largest of {self.name} must be finite, and the last two "
                f"above 0, got {usual}"
            )

    def standardised(self, field: Field) -> Field:
        """The field in units of the usual largest value of a normal image."""
        return (field - np.float32(self.mean)) / np.float32(self.deviation * self.largest)


def weights(*, with_segmenter: bool) -> dict[str, float]:
    """The witnesses of the form full, and their weights."""
    return WEIGHTS_WITH_SEGMENTER if with_segmenter else WEIGHTS


def measure_witness(
    name: str, fields: Sequence[Field], *, weight: float, places: SomePlaces | None = None
) -> Witness:
    """A witness by its fields of normal images; ``places`` are those that count, None for all."""
    mean, deviation, largest = mean_deviation_largest(
        np.stack(fields), smallest_deviation=_FLOORS[name], places=places
    )
    return Witness(
        name=name,
        weight=weight,
        mean=mean,
        deviation=deviation,
        largest=largest,
    )


def measure_large(
    name: str, fields: Sequence[Field], *, weight: float, places: Sequence[Places | None]
) -> Witness:
    """A witness by its fields of whole images, each looked at alone: they may be large.

    ``places`` are those of each that count, None for all.
    """

    def counted() -> Iterator[ndarray]:
        for field, some in zip(fields, places, strict=True):
            yield field if some is None else field[some]

    num = sum(each.size for each in counted())
    mean = sum(float(each.sum(dtype=np.float64)) for each in counted()) / num
    squares = sum(
        float(np.square(each - np.float32(mean)).sum(dtype=np.float64)) for each in counted()
    )
    deviation = max(float(np.sqrt(squares / num)), _FLOORS[name])
    largest = float(np.median([(float(each.max()) - mean) / deviation for each in counted()]))
    return Witness(
        name=name,
        weight=weight,
        mean=mean,
        deviation=deviation,
        largest=max(largest, SMALLEST_LARGEST),
    )


def join_fields(fields: Mapping[str, Field], witnesses: Sequence[Witness]) -> Field:
    """The weighted sum of the standardised fields of one image."""
    parts = [np.float32(each.weight) * each.standardised(fields[each.name]) for each in witnesses]
    joined: Field = np.stack(parts).sum(0, dtype=np.float32)
    return joined


def shares(
    fields: Mapping[str, Field], witnesses: Sequence[Witness], places: Places | None = None
) -> dict[str, float]:
    """How much each witness adds where the joined field is largest; in [0, 1], of sum 1.

    Only ``places`` count, if they are given.

    A witness that finds the place more usual than the mean adds nothing. If none adds anything,
    all are 0.
    """
    joined = join_fields(fields, witnesses)
    counted = joined if places is None else np.where(places, joined, np.float32(-np.inf))
    place = np.unravel_index(counted.argmax(), counted.shape)
    added = {
        each.name: max(0.0, each.weight * float(each.standardised(fields[each.name])[place]))
        for each in witnesses
    }
    whole = sum(added.values())
    return {name: value / whole if whole else 0.0 for name, value in added.items()}


def shares_of(
    fields: Sequence[Mapping[str, Field]],
    witnesses: Sequence[Witness],
    placements: Sequence[Placement],
) -> list[dict[str, float]]:
    """The shares in the score of each image; none but in the full form, which has fields."""
    if not fields:
        return []
    pairs = zip(fields, placements, strict=True)
    grid = len(fields[0][LOCAL])
    return [shares(each, witnesses, its.counted_places(grid)) for each, its in pairs]


def fields_of(
    local: Sequence[Mapping[str, Field]],
    surprisals: Sequence[Surprisal],
    differences: Sequence[AnomalyMap],
    usual: Usual,
    cells: SomePlaces | None = None,
) -> list[dict[str, Field]]:
    """The fields of the witnesses, by name, of each image; ``local`` are of those without codes.

    ``cells`` are those of the networks' cells that count, None for all.
    """
    some = [None] * len(local) if cells is None else cells
    return [
        {
            **fields,
            SURPRISAL: on_grid(surprisal.excess(nats, usual, counted), len(fields[LOCAL])),
            DIFFERENCE: on_grid(difference, len(fields[LOCAL])),
        }
        for fields, nats, difference, counted in zip(
            local, surprisals, differences, some, strict=True
        )
    ]


def on_grid(found: CellMap | AnomalyMap, grid: int) -> Field:
    """A map of pixels, or of the networks' cells, as a field of ``grid`` places on each side."""
    shrinks = found.shape[0] > grid
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(found, (grid, grid), interpolation=way)
