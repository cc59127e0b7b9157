"""The summary of a run: rows are counted as they leave the pipeline, and progress is shown."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad.inspection.comparison import Comparison
from vqad.inspection.night_statistics import CategoryStatistics
from vqad.inspection.night_warnings import NightWarning
from vqad.inspection.product_parts import PartCounts

Say = Callable[[str], None]  # takes one line for a person

# A terminal shows one line that changes; a log gets a line from time to time, and the last one.
_TERMINAL_INTERVAL_S: Final = 1.0
_LOG_INTERVAL_S: Final = 30.0

STAGES: Final = ("fetch", "decode", "inspect", "write")


@dataclass(kw_only=True)
class InspectSummary:
    """Counts of one run: listed = images + skipped, images = normal + defect + reject."""

    run: str
    skipped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # other files of the archive, by suffix
    passed_over: list[str] = field(default_factory=list)  # files in the tables that are no parts
    by_category: dict[str, Counter] = field(default_factory=dict)  # number by verdict
    statistics: dict[str, CategoryStatistics] = field(default_factory=dict)  # by category
    errors: Counter = field(default_factory=Counter)
    most_severe: list[dict[str, Any]] = field(default_factory=list)  # rows, see `_severity`
    versions: dict[str, str] = field(default_factory=dict)  # of the pinned detectors
    shadows: dict[str, str] = field(default_factory=dict)  # versions of the second detectors
    # Images by category, verdict, and the shadow's verdict (None where it could not judge).
    by_shadow: dict[str, Counter] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)  # written by this run
    stage_seconds: dict[str, float] = field(default_factory=dict)  # summed over all workers
    orphans_removed: int = 0
    superseded_removed: int = 0
    product_parts: PartCounts | None = None  # None if they are not asked for
    comparison: Comparison = field(default_factory=Comparison)  # with other nights
    beyond_limits: list[NightWarning] = field(default_factory=list)  # of the options
    seconds: float = 0.0

    @property
    def warnings(self) -> list[NightWarning]:
        """The warnings of the night."""
        return [*self.beyond_limits, *self.comparison.warnings]

    def count(self, verdict: str) -> int:
        """Images of this run with a verdict."""
        return sum(counts[verdict] for counts in self.by_category.values())

    @property
    def images(self) -> int:
        """Images of this run."""
        return sum(counts.total() for counts in self.by_category.values())

    @property
    def listed(self) -> int:
        """Images that were found."""
        return self.images + self.skipped

    def add(self, rows: pa.Table, *, num_most_severe: int) -> None:
        """Count rows that ``stages.write`` returned, and keep the most severe images."""
        for category in pc.unique(rows["category"]).to_pylist():
            statistics = self.statistics.setdefault(category, CategoryStatistics())
            statistics.add(rows.filter(pc.equal(rows["category"], category)))
        for row in rows.drop_columns(["code_counts"]).to_pylist():
            counts = self.by_category.setdefault(row["category"], Counter())
            counts[row["verdict"]] += 1
            if row["category"] in self.shadows:
                both = row["verdict"], row.get("shadow_verdict")
                self.by_shadow.setdefault(row["category"], Counter())[both] += 1
            self.parts.add(row["part"])
            for stage in STAGES:
                took_s = row[f"{stage}_seconds"] or 0.0
                self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + took_s
            if row["error"]:
                self.errors[row["error"]] += 1
            elif num_most_severe:
                self.most_severe.append(row)
        self.most_severe.sort(key=lambda row: (-_severity(row), row["image"]))
        del self.most_severe[num_most_severe:]


def shadow_record(summary: InspectSummary) -> dict[str, dict[str, Any]]:
    """For run.json: how often the second detector of each category came to another verdict."""
    found = {}
    for category, version in sorted(summary.shadows.items()):
        counts = summary.by_shadow.get(category, Counter())
        only_new, only_old = counts["normal", "defect"], counts["defect", "normal"]
        not_judged = sum(number for (_, second), number in counts.items() if second is None)
        found[category] = {
            "version": version,
            "images": counts.total(),
            "disagreements": only_new + only_old,
            "defect_by_shadow_only": only_new,
            "normal_by_shadow_only": only_old,
            "not_judged": not_judged,
        }
    return found


def shadow_lines(summary: InspectSummary) -> Iterator[str]:
    """The same for a person, a line for each category."""
    for category, each in shadow_record(summary).items():
        yield (
            f"shadow of {category}, {each['version']}: another verdict for {each['disagreements']} "
            f"of {each['images']} images ({each['defect_by_shadow_only']} defects by the shadow "
            f"alone, {each['normal_by_shadow_only']} normal by the shadow alone)"
        )
        if each["not_judged"]:
            yield f"warning: the shadow of {category} could not judge {each['not_judged']} images"


def _severity(row: dict[str, Any]) -> float:
    """The score in units of the threshold, so that images of different categories compare."""
    score, threshold = row["score"], row["threshold"]
    if not threshold:  # then any score above 0 is a defect, and none of them is the larger one
        return math.inf if score else 0.0
    severity: float = score / threshold
    return severity


class Progress:
    """Shows how far a run is: often on a terminal, seldom in a log."""

    def __init__(self, say: Say, *, num_todo: int, is_exact: bool) -> None:
        self.say, self.num_todo, self.is_exact = say, num_todo, is_exact
        self.on_terminal = sys.stderr.isatty()
        self.interval_s = _TERMINAL_INTERVAL_S if self.on_terminal else _LOG_INTERVAL_S
        self.start_s = self.last_s = time.monotonic()

    def show(self, summary: InspectSummary, *, ended: bool = False) -> None:
        """Show a line, if the interval has passed or the run has ended."""
        now_s = time.monotonic()
        if not ended and now_s - self.last_s < self.interval_s:
            return
        self.last_s = now_s
        line = self.line(summary, now_s - self.start_s, ended=ended)
        if self.on_terminal:
            # Return to the line's start and clear it.
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if ended else ""))
            sys.stderr.flush()
        else:
            self.say(line)

    def line(self, summary: InspectSummary, seconds: float, *, ended: bool) -> str:
        """Number of images done and in total, images/s, defects, rejects, time left."""
        done, rate = summary.images, summary.images / max(seconds, 1e-9)
        total = done if ended else max(self.num_todo, done)
        more = "" if self.is_exact or ended else " or more"
        left_s = (total - done) / rate if done else float("inf")
        left = f"{left_s:.0f} s left{more}" if done else "time left not known yet"
        return (
            f"{done} of {total}{more} images, {rate:.1f} images/s, "
            f"{summary.count('defect')} defects, {summary.count('reject')} rejects, {left}"
        )
