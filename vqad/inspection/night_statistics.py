"""What the images of a night look like to a detector, in a few numbers for each category.

They grow as rows leave the chain, from the same rows that the summary counts. So an image of a
task that Ray repeats counts once, and a run that goes on after a kill describes its own images.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vqad.images.measures import MEASURES

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
LOW, HIGH = 0.05, 0.95  # quantiles between which most images lie


@dataclass(kw_only=True)
class CategoryStatistics:
    """Statistics of the images of one category in one run."""

    verdicts: Counter[str] = field(default_factory=Counter)
    # One float32 per image, 1.6 MB of 100,000 images, because quantiles don't follow from sums.
    scores: "array[float]" = field(default_factory=lambda: array("f"))
    looks: "dict[str, array[float]]" = field(
        default_factory=lambda: {name: array("f") for name in MEASURES}
    )
    threshold: float | None = None
    code_counts: np.ndarray | None = None  # int64, one number per code

    def add(self, rows: pa.Table) -> None:
        """Add rows of one category that ``stages.write`` returned."""
        self.verdicts.update(rows["verdict"].to_pylist())
        judged = rows.filter(rows["score"].is_valid())
        if not len(judged):
            return
        self.scores.extend(judged["score"].to_pylist())
        self.threshold = judged["threshold"][0].as_py()
        for name, values in self.looks.items():
            values.extend(judged[name].to_pylist())
        for counts in judged["code_counts"].to_pylist():
            self._add_codes(np.frombuffer(counts, "<u4"))

    def _add_codes(self, counts: np.ndarray) -> None:
        if self.code_counts is None:
            self.code_counts = np.zeros(len(counts), np.int64)
        self.code_counts += counts

    def record(self) -> dict[str, Any]:
        """The statistics as they stand in run.json."""
        num = self.verdicts.total()
        if not len(self.scores):
            return {"images": num, "rejects": self.verdicts["reject"], "defects": 0}
        return {
            "images": num,
            "rejects": self.verdicts["reject"],
            "defects": self.verdicts["defect"],
            "threshold": self.threshold,
            "score_quantiles": {f"{share:g}": _quantile(self.scores, share) for share in QUANTILES},
            **{name: _look(values) for name, values in self.looks.items()},
            "code_counts": [] if self.code_counts is None else self.code_counts.tolist(),
        }


def _look(values: "array[float]") -> dict[str, float]:
    found = np.asarray(values, np.float64)
    deviation = float(found.std(ddof=1)) if len(found) > 1 else 0.0
    return {
        "mean": round(float(found.mean()), 6),
        "deviation": round(deviation, 6),
        "low": _quantile(values, LOW),
        "high": _quantile(values, HIGH),
    }


def _quantile(values: "array[float]", share: float) -> float:
    return round(float(np.quantile(np.asarray(values, np.float64), share)), 6)
