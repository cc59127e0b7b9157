"""Measure scores and maps against the ground truth (4.2).

Labels are compared with results here and nowhere else: the results come from code that is given
images alone. Metrics are taken at the resolution of the maps, which is that of the model's input.
One category is in memory at a time.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray

from vqad.detection.score import predicted_mask
from vqad.evaluation import metrics
from vqad.evaluation.ground_truth import Truth
from vqad.evaluation.labelled_images import GOOD
from vqad.evaluation.metrics import Metrics
from vqad.evaluation.results import Inspected
from vqad.tables import EVALUATION

RESAMPLING = "resampling"  # the name of the method itself, among baselines and ablations

# The bins of figure 6: the logarithm of the score, from a thousandth of a grey level upwards.
LOG10_EDGES = np.linspace(-3, np.log10(442), 61)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of one method on one category."""

    category: str
    method: str
    threshold: float
    num_good: int
    num_defect: int
    num_rejected: int
    metrics: Metrics
    by_type: dict[str, Metrics] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def measure(
    truth: Truth,
    scores: Float[ndarray, " n"],
    maps: Float32[ndarray, "n height width"] | None,
    *,
    category: str,
    method: str,
    threshold: float,
    num_rejected: int,
) -> Measured:
    """Measure one method's results on all test images, and on each defect type.

    A defect type is measured on its own images together with all good ones.
    """

    def of(some: ndarray | slice) -> Metrics:
        return metrics.evaluate(
            scores[some],
            truth.is_defect[some],
            None if maps is None else maps[some],
            None if truth.masks is None else truth.masks[some],
            threshold=threshold,
            counted=None if truth.counted is None else truth.counted[some],
        )

    types = sorted(set(truth.defect_types) - {GOOD})
    num_defect = int(truth.is_defect.sum())
    return Measured(
        category=category,
        method=method,
        threshold=threshold,
        num_good=len(truth.images) - num_defect,
        num_defect=num_defect,
        num_rejected=num_rejected,
        metrics=of(slice(None)),
        by_type={each: of(truth.of_type(each)) for each in types},
    )


def distribution(
    maps: Float32[ndarray, "n height width"],
    masks: Bool[ndarray, "n height width"],
    counted: Bool[ndarray, "n height width"] | None = None,
) -> Int64[ndarray, "2 bins"]:
    """Count pixels by the logarithm of their score, normal ones first (figure 6).

    The first bin has the pixels at exactly 0, where nothing changed; the others are LOG10_EDGES.
    Pixels where ``counted`` is false are left out.
    """
    counts = np.zeros((2, len(LOG10_EDGES)), np.int64)
    for at, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        normal = ~mask if counted is None else ~mask & counted[at]
        for row, pixels in enumerate((anomaly_map[normal], anomaly_map[mask])):
            above = pixels[pixels > 0]
            inside = np.log10(above).clip(LOG10_EDGES[0], LOG10_EDGES[-1])
            counts[row, 0] += pixels.size - above.size
            counts[row, 1:] += np.histogram(inside, LOG10_EDGES)[0]
    return counts


def examples(truth: Truth, inspected: Inspected) -> list[tuple[str, str, int]]:
    """Choose images to show: (defect type, best | median | worst, position) (figure 7).

    Images of a defect type are ordered by the intersection over union of truth and prediction.
    Good images, and images without masks, are ordered by their score.
    """
    chosen = []
    for defect_type in sorted(set(truth.defect_types), key=lambda each: (each == GOOD, each)):
        positions = [at for at, each in enumerate(truth.defect_types) if each == defect_type]
        order = sorted(positions, key=lambda at: (-_merit(truth, inspected, at), at))
        last = len(order) - 1
        # If there are only one or two images, none is shown twice.
        names = {last // 2: "median", last: "worst", 0: "best"}
        chosen += [(defect_type, names[place], order[place]) for place in sorted(names)]
    return chosen


def _merit(truth: Truth, inspected: Inspected, at: int) -> float:
    if truth.defect_types[at] == GOOD:
        return -float(inspected.scores[at])
    if truth.masks is None or not truth.masks[at].any():
        return float(inspected.scores[at])
    predicted = predicted_mask(inspected.maps[at], inspected.threshold)
    both = np.count_nonzero(predicted & truth.masks[at])
    return float(both / np.count_nonzero(predicted | truth.masks[at]))


def mean_of(measured: Sequence[Measured], method: str) -> Metrics:
    """The mean of a method's metrics over categories."""
    return metrics.mean([each.metrics for each in measured if each.method == method])


def worst_of(measured: Sequence[Measured], method: str) -> Metrics:
    """The worst of each of a method's metrics over categories."""
    return metrics.worst([each.metrics for each in measured if each.method == method])


def methods_of(measured: Sequence[Measured]) -> list[str]:
    """Names of the methods in the order of their first appearance."""
    return list(dict.fromkeys(each.method for each in measured))


def table(measured: Sequence[Measured]) -> pa.Table:
    """All metrics as a table, with the mean over categories."""
    rows: list[dict[str, Any]] = []
    for each in measured:
        common = {
            "category": each.category,
            "method": each.method,
            "num_good": each.num_good,
            "num_defect": each.num_defect,
            "num_rejected": each.num_rejected,
            "threshold": each.threshold,
        }
        rows.append({**common, "defect_type": "", **asdict(each.metrics)})
        for defect_type, found in each.by_type.items():
            rows.append({**common, "defect_type": defect_type, **asdict(found)})
    for method in methods_of(measured):
        of_method = [each for each in measured if each.method == method]
        sums = {
            name: sum(getattr(each, name) for each in of_method)
            for name in ("num_good", "num_defect", "num_rejected")
        }
        rows.append(
            {"category": "mean", "method": method, "defect_type": "", "threshold": None}
            | sums
            | asdict(mean_of(measured, method))
        )
    return pa.Table.from_pylist(rows, schema=EVALUATION)
