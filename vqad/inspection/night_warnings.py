"""The warnings of a night, for people and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vqad.inspection.drift import Drift
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.observed_statistics import STATISTICS, Reference


@dataclass(frozen=True, kw_only=True)
class NightWarning:
    """One warning, as it stands in run.json."""

    code: str  # the name of a statistic of `drift`, or of an option whose limit was exceeded
    category: str  # "" for the whole night
    message: str
    value: float
    expected: tuple[float, float]  # least and largest value without a warning
    compared_with: tuple[Reference, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **vars(self),
            "value": round(self.value, 6),
            "expected": [round(each, 6) for each in self.expected],
            "compared_with": list(self.compared_with),
        }


def of_limits(
    monitoring: Monitoring, *, images: int, rejects: int, defects: int
) -> Iterator[NightWarning]:
    """A warning for each limit of the options that the shares of a run exceed."""
    found = (
        ("max_reject_fraction", "rejected", rejects, monitoring.max_reject_fraction),
        ("max_defect_fraction", "found defective", defects, monitoring.max_defect_fraction),
    )
    for code, verb, number, limit in found:
        if limit is not None and number > limit * max(1, images):
            yield NightWarning(
                code=code,
                category="",
                message=f"{number} of {images} images were {verb}, more than "
                f"--{code.replace('_', '-')} {limit:g}",
                value=number / images,
                expected=(0.0, limit),
            )


def of_drifts(drifts: Sequence[Drift], num_nights: int) -> Iterator[NightWarning]:
    """One warning for each category's statistic that exceeds a limit, the larger excess first."""
    exceeded: dict[tuple[str, str], list[Drift]] = {}
    for each in drifts:
        if each.ratio > 1:
            exceeded.setdefault((each.category, each.statistic), []).append(each)
    for (category, name), found in exceeded.items():
        found.sort(key=lambda each: -each.ratio)
        yield NightWarning(
            code=name,
            category=category,
            message=f"{category}: {_sentence(found[0], num_nights)}",
            value=found[0].value,
            expected=found[0].expected,
            compared_with=tuple(each.reference for each in found),
        )


def _sentence(drift: Drift, num_nights: int) -> str:
    statistic = STATISTICS[drift.statistic]
    value, low, high = (format(each, statistic.digits) for each in (drift.value, *drift.expected))
    by_nights = drift.reference == "earlier nights"
    reference = f"the last {num_nights} nights" if by_nights else f"the {drift.reference}"
    return f"{statistic.shown.format(value)}; expected from {low} to {high} by {reference}"
