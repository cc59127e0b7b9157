"""Counts over all rows of an output, added up part by part."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from numpy import ndarray

from vqad.inspection.verdict_rows import by_category
from vqad.report.severity import severity

# Bins of the histograms: a tenth of the threshold each, and one for all that is above.
BINS_PER_THRESHOLD: Final = 10
LARGEST_SEVERITY: Final = 3
NUM_BINS: Final = BINS_PER_THRESHOLD * LARGEST_SEVERITY + 1

VERDICTS: Final = ("defect", "normal", "reject")


def _no_scores() -> Int64[ndarray, " bins"]:
    return np.zeros(NUM_BINS, np.int64)


@dataclass(kw_only=True)
class CategoryTotals:
    """Counts of one category."""

    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # reasons of rejects
    versions: Counter[str] = field(default_factory=Counter)  # of detectors
    scores: Int64[ndarray, " bins"] = field(default_factory=_no_scores)  # images by severity

    @property
    def images(self) -> int:
        """Number of rows."""
        return self.verdicts.total()


@dataclass(kw_only=True)
class Totals:
    """Counts of an output."""

    by_category: dict[str, CategoryTotals] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)  # rows by the run that wrote them

    def add(self, rows: pa.Table) -> None:
        """Count the rows of a part."""
        self.runs.update(_counted(rows, "run"))
        for category, of_category in by_category(rows).items():
            totals = self.by_category.setdefault(category, CategoryTotals())
            totals.verdicts.update(_counted(of_category, "verdict"))
            totals.errors.update({e: n for e, n in _counted(of_category, "error").items() if e})
            totals.versions.update(
                {v: n for v, n in _counted(of_category, "model_version").items() if v}
            )
            totals.scores += histogram(severity(of_category))

    def count(self, verdict: str) -> int:
        """Rows of all categories with a verdict."""
        return sum(each.verdicts[verdict] for each in self.by_category.values())

    @property
    def images(self) -> int:
        """Rows of all categories."""
        return sum(each.images for each in self.by_category.values())

    @property
    def errors(self) -> Counter[str]:
        """Rejects of all categories by their reason."""
        return sum((each.errors for each in self.by_category.values()), Counter())


def _counted(rows: pa.Table, column: str) -> dict[str, int]:
    found: Any = rows[column].value_counts()
    return {each["values"].as_py(): each["counts"].as_py() for each in found}


def histogram(severities: ndarray) -> Int64[ndarray, " bins"]:
    """Number of images in each bin; a score at the threshold counts below it, as normal."""
    found = severities[~np.isnan(severities)]
    # Bins are closed above, (a, b]: a score equal to the threshold is normal.
    bins = np.ceil(np.minimum(found, LARGEST_SEVERITY + 1) * BINS_PER_THRESHOLD) - 1
    return np.bincount(np.clip(bins, 0, NUM_BINS - 1).astype(np.int64), minlength=NUM_BINS)
