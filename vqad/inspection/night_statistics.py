"""What the images of a night look like to a detector, in a few numbers for each category.

The sums grow as rows leave the chain, from the same rows that the summary counts. So an image of a
task that Ray repeats counts once, and a run that goes on after a kill describes its own images.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vqad.images.appearance import MEASURES

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(kw_only=True)
class Sums:
    """Sums of one measure over images, from which mean and standard deviation follow."""

    num: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add one value per image."""
        # As float64: the deviation is a small difference of large sums.
        wide = values.astype(np.float64)
        self.num += len(wide)
        self.total += float(wide.sum())
        self.squares += float((wide * wide).sum())

    @property
    def mean(self) -> float:
        """Mean over the images."""
        return self.total / self.num if self.num else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation over the images."""
        if self.num < 2:
            return 0.0
        variance = (self.squares - self.num * self.mean**2) / (self.num - 1)
        return float(np.sqrt(max(variance, 0.0)))


@dataclass(kw_only=True)
class CategoryStatistics:
    """Statistics of the images of one category in one run."""

    verdicts: Counter[str] = field(default_factory=Counter)
    sums: dict[str, Sums] = field(default_factory=lambda: {name: Sums() for name in MEASURES})
    scores: "array[float]" = field(default_factory=lambda: array("f"))
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
        for name, sums in self.sums.items():
            sums.add(judged[name].to_numpy())
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
        quantiles = np.quantile(np.asarray(self.scores, np.float64), QUANTILES)
        return {
            "images": num,
            "rejects": self.verdicts["reject"],
            "defects": self.verdicts["defect"],
            "threshold": self.threshold,
            "score_quantiles": {
                f"{share:g}": round(float(value), 6)
                for share, value in zip(QUANTILES, quantiles, strict=True)
            },
            **{
                name: {"mean": round(sums.mean, 6), "deviation": round(sums.deviation, 6)}
                for name, sums in self.sums.items()
            },
            "code_counts": [] if self.code_counts is None else self.code_counts.tolist(),
        }
