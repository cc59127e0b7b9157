"""A night compared with the nights before it and with the training images, category by category.

No warning must not look like a night without anything unusual, so what was not compared is said.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from vqad.detection import saved_detector
from vqad.detection.fit_record import FitRecord
from vqad.detection.weights import DetectorError
from vqad.inspection import history, night_warnings
from vqad.inspection.drift import Drift, compare_category
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.night_warnings import NightWarning
from vqad.inspection.observed_statistics import Reference
from vqad.storage.errors import ArchiveError

_NIGHTS: Reference = "earlier nights"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of comparing a night."""

    runs: list[str] = field(default_factory=list)  # names of the earlier nights, latest first
    drifts: list[Drift] = field(default_factory=list)
    warnings: list[NightWarning] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)  # with earlier nights: reason
    problem: str = ""  # why no earlier night could be read

    def note(self) -> str:
        """A line on what was not compared with earlier nights, "" if all was."""
        if self.problem:
            return f"nothing was compared with earlier nights: {self.problem}"
        if not self.not_compared:
            return ""
        if not self.runs:
            return "no earlier night of these products: nothing was compared with other nights"
        reasons = (f"{category} ({reason})" for category, reason in self.not_compared.items())
        return f"not compared with other nights: {', '.join(reasons)}"

    def expected(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By category and statistic: the value, and the range of each reference, for run.json."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for each in self.drifts:
            entry = found.setdefault(each.category, {}).setdefault(each.statistic, {})
            entry["value"] = round(each.value, 6)
            entry[each.reference] = [round(limit, 6) for limit in each.expected]
        return found


def compare(
    statistics: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    earlier: Sequence[dict[str, Any]],
    trainings: Mapping[str, FitRecord],
) -> Comparison:
    """Compare the statistics of each category, as `night_statistics` records them.

    ``versions`` are the detectors of this night, ``earlier`` the records that `history` found,
    and ``trainings`` the records of the detectors' fits. Images of no known category are not
    compared.
    """
    drifts: list[Drift] = []
    warnings: list[NightWarning] = []
    not_compared = {}
    compared = {each: found for each, found in statistics.items() if each in versions}
    for category, night in sorted(compared.items()):
        nights = _nights_of(category, versions[category], earlier)
        found = compare_category(
            category, night, nights, trainings.get(category), num_categories=len(compared)
        )
        drifts += found.drifts
        warnings += night_warnings.of_drifts(found.drifts, len(nights))
        if found.not_compared:
            not_compared[category] = found.not_compared
    runs = [str(each.get("run", "")) for each in earlier]
    return Comparison(runs=runs, drifts=drifts, warnings=warnings, not_compared=not_compared)


def of_night(
    job: InspectJob,
    monitoring: Monitoring,
    run: str,
    statistics: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
) -> Comparison:
    """Read the history and the records of the detectors, and compare a run with them."""
    night = history.Night(
        run=run,
        output=job.output,
        pattern=history.archive_pattern(job),
        categories=frozenset(statistics),
    )
    earlier: list[dict[str, Any]] = []
    problem = ""
    try:
        folder = monitoring.history or history.folder_above(job.output)
        earlier = history.earlier_nights(folder, night)
    except ArchiveError as error:  # to compare is not worth a night that fails
        problem = str(error)
    trainings = _trainings(
        job.models, {each: versions[each] for each in versions if each in statistics}
    )
    return replace(compare(statistics, versions, earlier, trainings), problem=problem)


def _trainings(models: str, versions: Mapping[str, str]) -> dict[str, FitRecord]:
    found = {}
    for category, version in versions.items():
        with suppress(DetectorError):  # removed or replaced since the run began
            found[category] = saved_detector.load_settings(models, category, version).found
    return found


def _nights_of(
    category: str, version: str, earlier: Sequence[dict[str, Any]]
) -> list[Mapping[str, Any]]:
    """The category's statistics in nights of the same detector that were like the nights before.

    An unusual night is no measure for others. If the change is there to stay, the nights before it
    leave the history after a week; then there is nothing to compare with for as many nights
    as a comparison needs, and then the new state is the usual one.
    """
    return [
        record["statistics"][category]
        for record in earlier
        if category in record["statistics"]
        and record.get("model_versions", {}).get(category) == version
        and not _was_unusual(record, category)
    ]


def _was_unusual(record: Mapping[str, Any], category: str) -> bool:
    return any(
        each.get("category") == category and _NIGHTS in each.get("compared_with", ())
        for each in record.get("warnings", ())
        if isinstance(each, dict)
    )
