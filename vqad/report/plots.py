"""Plots of the page as rectangles with captions, which the template draws as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vqad.report.totals import BINS_PER_THRESHOLD, CategoryTotals

HEIGHT: Final = 60.0  # of all plots, in units of the drawing
_STEP: Final = 10.0  # from one bar to the next
_BAR: Final = 8.5  # width of a bar
_NIGHTS: Final = 8  # that there is room for: those of a week, and the latest
_SMALLEST_HEIGHT: Final = 1.5  # of a bar that is not zero, so that it can be seen


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One rectangle; y runs downwards from 0 to ``HEIGHT``."""

    x: float
    height: float
    kind: str  # a class of the style sheet
    caption: str  # shown where a pointer rests on it, and read by screen readers
    width: float = _BAR

    @property
    def y(self) -> float:
        """The upper edge."""
        return HEIGHT - self.height


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Bars side by side."""

    bars: list[Bar]
    width: float
    caption: str
    threshold_x: float | None = None  # a vertical line
    labels: list[tuple[float, str]] = field(default_factory=list)  # below the axis, by x


def histogram(totals: CategoryTotals) -> Plot:
    """Images by score, in tenths of the threshold. Heights are square roots of the counts.

    A night may have ten thousand normal images and five defects; with plain counts these five
    would not be seen.
    """
    counts = totals.scores
    largest = np.sqrt(max(1, int(counts.max())))
    bars = [
        Bar(
            x=at * _STEP,
            height=_height(float(np.sqrt(count)) / largest),
            kind="normal" if at < BINS_PER_THRESHOLD else "defect",
            caption=f"{_range(at, len(counts))} times the threshold: {_images(int(count))}",
        )
        for at, count in enumerate(counts)
        if count
    ]
    threshold_x = BINS_PER_THRESHOLD * _STEP - (_STEP - _BAR) / 2
    labels = [(each * BINS_PER_THRESHOLD * _STEP, f"{each}x") for each in (0, 2, 3)]
    return Plot(
        bars=bars,
        width=len(counts) * _STEP,
        threshold_x=threshold_x,
        labels=[*labels, (threshold_x, "threshold")],
        caption=f"scores of {_images(int(counts.sum()))}, in multiples of the threshold",
    )


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"


def _range(at: int, num_bins: int) -> str:
    start = at / BINS_PER_THRESHOLD
    if at == num_bins - 1:
        return f"more than {start:g}"
    return f"{start:g} to {(at + 1) / BINS_PER_THRESHOLD:g}"


def _height(share: float) -> float:
    return max(_SMALLEST_HEIGHT, share * HEIGHT) if share > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Night:
    """The counts of one run, as its record has them."""

    name: str  # day and time for a person
    categories: dict[str, dict[str, int]]  # counts by category and verdict
    is_latest: bool = False

    def share(self, category: str, verdict: str) -> float | None:
        """Share of a category's images with a verdict; None for a night without images of it."""
        counts = self.categories.get(category, {})
        total = sum(counts.values())
        return counts.get(verdict, 0) / total if total else None


def nights(found: Sequence[Night], category: str, verdict: str) -> Plot | None:
    """Shares of a verdict, oldest night first; None without an earlier night of this category."""
    shares = [(each, each.share(category, verdict)) for each in found]
    if not any(share is not None and not each.is_latest for each, share in shares):
        return None
    largest = max(0.05, *(share for _, share in shares if share is not None))
    bars = [
        Bar(
            x=at * 2 * _STEP,
            width=2 * _BAR,
            height=_height((share or 0) / largest),
            kind=f"{verdict} latest" if each.is_latest else verdict,
            caption=f"{each.name}: {_percent(share)} {verdict}",
        )
        for at, (each, share) in enumerate(shares)
    ]
    labels = [(0.0, f"top: {_percent(largest)}")]
    caption = f"share of {verdict}s of {category} in {len(found)} nights, the latest on the right"
    return Plot(bars=bars, width=2 * _STEP * _NIGHTS, caption=caption, labels=labels)


def _percent(share: float | None) -> str:
    return "no images" if share is None else f"{100 * share:.1f} %"


def night_of(record: dict[str, Any], name: str, *, is_latest: bool = False) -> Night:
    """A night from the record of a run; what is no number of images is left out."""
    found = record.get("categories")
    categories = {
        str(category): {
            str(verdict): count for verdict, count in counts.items() if type(count) is int
        }
        for category, counts in (found if isinstance(found, dict) else {}).items()
        if isinstance(counts, dict)
    }
    return Night(name=name, categories=categories, is_latest=is_latest)
