"""The threshold and the usual surprisal of a detector, from held-out normal images (4.2).

No test image and no label is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vqad.array_types import AnomalyMap, OwnMap
from vqad.detection import surprisal
from vqad.detection.false_alarms import promise_of, smallest_rate, threshold_for
from vqad.detection.fit_record import ThresholdRecord
from vqad.detection.surprisal import Surprisal, Usual
from vqad.images.placement import Geometry, ImageForm, Placement, places_of
from vqad.model.kinds import Kind

SMALLEST_THRESHOLD = 1.0  # grey level: one step of an 8-bit image
DEFAULT_ETA = 5e-4
# Of false alarms, by cross-fitted scores: there are many, so that the largest says little.
CROSS_FITTED_RATE = 0.05
# Of harmless copies of normal images, for each change alone.
COPIES_QUANTILE = 0.975
PAPER_QUANTILE = 1.0  # the largest score of the held-out images


def threshold(
    scores: Sequence[float], *, quantile: float | None = None, smallest: float = SMALLEST_THRESHOLD
) -> float:
    """The threshold: an image with a larger score is a defect (section 4.2).

    The paper raises the threshold until the largest component of any held-out normal map has the
    minimum area: that is the largest of their scores. A smaller ``quantile`` tolerates unusual
    images among the held-out ones. ``smallest`` is for scores in other units than grey levels.
    """
    quantile = PAPER_QUANTILE if quantile is None else quantile
    if not 0 < quantile <= 1:
        raise ValueError(f"threshold_quantile must be in (0, 1], got {quantile}")
    if not len(scores):
        raise ValueError("no held-out images to set a threshold from")
    value = np.quantile(np.asarray(scores, np.float64), quantile)
    # Rounded to the type of the tables, so that comparing their columns gives the same verdicts.
    return max(smallest, float(np.float32(value)))


def cross_fitted_threshold(scores: Sequence[float], *, quantile: float | None = None) -> float:
    """The threshold of the form full: for a rate of false alarms, or the given quantile.

    Where there are too few scores for the rate, it is for the smallest that they can promise.
    """
    if quantile is not None:
        return threshold(scores, quantile=quantile, smallest=0.0)
    return threshold_for(scores, max(CROSS_FITTED_RATE, smallest_rate(len(scores))))


def record_of(
    scores: Sequence[float], threshold: float, *, source: str, quantile: float | None, default: str
) -> ThresholdRecord:
    """The record of a threshold that a calibration has set; ``default`` is its rule."""
    promise = promise_of(scores, threshold)
    return ThresholdRecord(
        rule=default if quantile is None else "quantile",
        source=[source],
        num_scores=promise.num_scores,
        asked=CROSS_FITTED_RATE if quantile is None and default == "conformal" else quantile,
        rate=promise.rate,
        deviation=promise.deviation,
    )


def usual_of(
    differences: Sequence[AnomalyMap],
    surprisals: Sequence[Surprisal],
    kind: Kind,
    *,
    eta: float,
    score: Callable[[AnomalyMap], float],
    placements: Sequence[Placement] | None = None,
) -> tuple[Usual, list[OwnMap]]:
    """The usual surprisal of held-out normal images, and their maps in the joined form.

    The map of each image is made with the usual surprisal of the others, because a new image is not
    among those that define it either. The share of the fine map makes its largest score equal to
    that of the broad map, unless it is smaller anyway. The maps cover the source images, which lie
    in the model's input as ``placements`` say; None are square.
    """
    size_px, num_cells = differences[0].shape[0], surprisals[0].shape[-1]
    square = Geometry(form=ImageForm(size_px=size_px)).placement()
    its = placements or [square] * len(differences)
    cells = places_of(its, num_cells)

    def usual_without(at: int) -> Usual:
        some = np.arange(len(surprisals)) != at
        others = [one for n, one in enumerate(surprisals) if n != at] or [_flat(surprisals[at])]
        counted = None if cells is None else cells[some if some.any() else ~some]
        return surprisal.usual(others, kind, eta=eta, cells=counted)

    broad, fine = [], []
    for at, one in enumerate(surprisals):
        without, counted = usual_without(at), its[at].counted_places(num_cells)
        found = surprisal.broad_map(differences[at], one, without, eta=eta, cells=counted)
        broad.append(its[at].map_of(found))
        found = surprisal.fine_map(one, without, eta=eta, size_px=size_px, cells=counted)
        fine.append(its[at].map_of(found))
    largest = [max(map(score, maps)) for maps in (broad, fine)]
    share = min(1.0, max(largest[0], SMALLEST_THRESHOLD) / max(largest[1], SMALLEST_THRESHOLD))
    usual = replace(surprisal.usual(surprisals, kind, eta=eta, cells=cells), fine_share=share)
    maps = [
        np.maximum(one, np.float32(share) * each) for one, each in zip(broad, fine, strict=True)
    ]
    return usual, maps


def _flat(surprisal: Surprisal) -> Surprisal:
    # A single held-out image has no others to be compared with, so its own mean is used.
    return np.full_like(surprisal, surprisal.mean())
