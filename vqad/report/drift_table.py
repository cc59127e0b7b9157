"""The statistics of the latest run beside their usual ranges, as run.json has them.

``expected`` in a run's record has, by category and statistic, the value and for each reference the
range without a warning. A record of another version of the program may have it in another form:
what can't be understood is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from vqad.inspection.observed_statistics import STATISTICS

REFERENCES: Final = ("earlier nights", "training images")
_LABELS: Final = {
    "defect_share": "share of defects",
    "reject_share": "share of rejects",
    "score_median": "median score, in thresholds",
    "code_distance": "distance of codes from training",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One statistic, as texts."""

    label: str
    value: str
    ranges: tuple[str, ...]  # without a warning, for each of ``REFERENCES``; "" if not compared
    is_unusual: bool


def lines(record: dict[str, Any], category: str) -> list[Line]:
    """The statistics of a category in the record of a run."""
    by_category = record.get("expected")
    found = by_category.get(category) if isinstance(by_category, dict) else None
    return list(_lines(found)) if isinstance(found, dict) else []


def _lines(found: dict[str, Any]) -> Iterator[Line]:
    for name, entry in found.items():
        try:
            value, ranges = float(entry["value"]), [_range(entry.get(each)) for each in REFERENCES]
        except (KeyError, TypeError, ValueError):
            continue
        digits = STATISTICS[name].digits if name in STATISTICS else ".4g"
        yield Line(
            label=_LABELS.get(name, name.replace("_", " ")),
            value=format(value, digits),
            ranges=tuple(
                f"{low:{digits}} to {high:{digits}}" if each else ""
                for each in ranges
                for low, high in [each or (0.0, 0.0)]
            ),
            is_unusual=any(each and not each[0] <= value <= each[1] for each in ranges),
        )


def _range(found: Any) -> tuple[float, float] | None:
    if found is None:
        return None
    low, high = found
    return float(low), float(high)
