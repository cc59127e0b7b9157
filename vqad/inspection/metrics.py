r"""``OUTPUT/metrics.prom``: a run's numbers in the text format of Prometheus.

node_exporter's textfile collector reads such files from a folder. It refuses two samples of equal
name and labels. So the archive, without its dates, is a label of all: then the files of several
lines can lie in one folder, and the nights of one line are one time series.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from vqad.inspection import history
from vqad.inspection.job import InspectJob
from vqad.inspection.observed_statistics import observe
from vqad.inspection.summary import InspectSummary

_HELP: Final = {
    "images": "Images of the last run, by category and verdict.",
    "rejects": "Rejected images of the last run, by reason.",
    "skipped_images": "Images that had their verdict before the last run.",
    "seconds": "Duration of the last run.",
    "images_per_second": "Images of the last run divided by its duration.",
    "stage_seconds": "Seconds that all workers of the last run spent on a stage.",
    "end_timestamp_seconds": "Time at which the last run ended.",
    "warnings": "Warnings of the last run, by category and code.",
    "statistic": "Statistics of the last run's images.",
    "drift_ratio": "Difference from a reference, in units of the largest without a warning.",
}


@dataclass(frozen=True, kw_only=True)
class _Sample:
    name: str  # a key of `_HELP`
    value: int | float
    labels: Mapping[str, str] = field(default_factory=dict)


def text(job: InspectJob, summary: InspectSummary) -> str:
    """The metrics of a run, every one a gauge."""
    archive = history.without_dates(job.archive)
    lines = []
    named: dict[str, list[_Sample]] = {}
    for sample in _samples(summary):
        named.setdefault(sample.name, []).append(sample)
    for name, samples in named.items():
        full = f"vqad_inspect_{name}"
        lines += [f"# HELP {full} {_HELP[name]}", f"# TYPE {full} gauge"]
        for each in samples:
            labels = {"archive": archive, **each.labels}
            shown = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
            lines.append(f"{full}{{{shown}}} {each.value:.10g}")
    return "\n".join(lines) + "\n"


def _samples(summary: InspectSummary) -> Iterator[_Sample]:
    for category, counts in sorted(summary.by_category.items()):
        for verdict in ("normal", "defect", "reject"):
            labels = {"category": category, "verdict": verdict}
            yield _Sample(name="images", value=counts[verdict], labels=labels)
    for error, number in sorted(summary.errors.items()):
        yield _Sample(name="rejects", value=number, labels={"error": error})
    yield _Sample(name="skipped_images", value=summary.skipped)
    yield _Sample(name="seconds", value=summary.seconds)
    yield _Sample(name="images_per_second", value=summary.images / max(summary.seconds, 0.1))
    for stage, seconds in summary.stage_seconds.items():
        yield _Sample(name="stage_seconds", value=seconds, labels={"stage": stage})
    yield _Sample(name="end_timestamp_seconds", value=round(time.time(), 3))
    for warning in summary.warnings:
        labels = {"category": warning.category, "code": warning.code}
        yield _Sample(name="warnings", value=1, labels=labels)
    yield from _drift_samples(summary)


def _drift_samples(summary: InspectSummary) -> Iterator[_Sample]:
    for category, statistics in sorted(summary.statistics.items()):
        for name, observed in observe(statistics.record()).items():
            labels = {"category": category, "statistic": name}
            yield _Sample(name="statistic", value=observed.value, labels=labels)
    for each in summary.comparison.drifts:
        labels = {"category": each.category, "statistic": each.statistic}
        labels["reference"] = each.reference.replace(" ", "_")
        yield _Sample(name="drift_ratio", value=each.ratio, labels=labels)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
