"""The run history of an output: unusual shares of defects and rejects, and the usual speed.

The earlier runs are those recorded in the same output. In an output that is new every night there
are none, and then nothing is compared. This is reported: no warning must not look like a night
without anything unusual.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from vqad.storage import errors, files, output_layout, uris

NUM_RUNS: Final = 7  # nights of a week
FEWEST_IMAGES: Final = 30  # per category, in this run and in the history, for a comparison
# Guesses: a warning needs a difference of four standard errors, and of 5 in 100 images.
NUM_STANDARD_ERRORS: Final = 4.0
SMALLEST_DIFFERENCE: Final = 0.05
_LARGEST_RECORD_BYTES: Final = 16 * 2**20


def last_runs(output: str) -> Iterator[dict[str, Any]]:
    """Records of the last runs that inspected at least one image, latest first."""
    folder = output_layout.runs(output)
    names = files.list_names(folder) if files.exists(folder) else []
    found = (
        record
        for name in sorted(names, reverse=True)
        if name.endswith(".json")
        if (record := _record(uris.join(folder, name))).get("images")
    )
    return islice(found, NUM_RUNS)


def _record(uri: str) -> dict[str, Any]:
    try:
        found = json.loads(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
    except (errors.FetchError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run compared with the last runs of its output."""

    runs: list[str] = field(default_factory=list)  # names of those runs
    # A line per category and verdict whose share differs by more than chance.
    warnings: list[str] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)  # reason, by category

    def note(self) -> str:
        """A line on what was not compared, "" if all was."""
        if not self.not_compared:
            return ""
        if not self.runs:
            return "no earlier run in this output: nothing was compared with other nights"
        reasons = (f"{category} ({reason})" for category, reason in self.not_compared.items())
        return f"not compared with other nights: {', '.join(reasons)}"


def compare(by_category: dict[str, Counter], runs: list[dict[str, Any]]) -> Comparison:
    """Compare shares; ``by_category`` counts this run's images by verdict.

    ``runs`` are records of ``last_runs``.
    """
    warnings: list[str] = []
    not_compared = {}
    for category, now in sorted(by_category.items()):
        before: Counter[str] = Counter()
        for run in runs:
            before.update(run.get("categories", {}).get(category, {}))
        reason = _too_few(now.total(), before.total())
        if reason:
            not_compared[category] = reason
        else:
            warnings += _warnings(category, now, before)
    names = [str(run.get("run", "")) for run in runs]
    return Comparison(runs=names, warnings=warnings, not_compared=not_compared)


def _too_few(now: int, before: int) -> str:
    """The reason why two numbers of images are too few to compare, or ""."""
    if before < FEWEST_IMAGES:
        return f"{before} images in the last runs, fewer than {FEWEST_IMAGES}"
    return f"{now} images, fewer than {FEWEST_IMAGES}" if now < FEWEST_IMAGES else ""


def _warnings(category: str, now: Counter, before: Counter) -> Iterator[str]:
    for verdict in ("defect", "reject"):
        if _differs(now[verdict], now.total(), before[verdict], before.total()):
            yield (
                f"{category}: {now[verdict]} of {now.total()} images are {verdict}s, in the "
                f"last runs {before[verdict]} of {before.total()}"
            )


def _differs(now: int, total_now: int, before: int, total_before: int) -> bool:
    """Test two proportions for a difference, by the standard error of their pooled share."""
    difference = abs(now / total_now - before / total_before)
    share = (now + before) / (total_now + total_before)
    error = math.sqrt(share * (1 - share) * (1 / total_now + 1 / total_before))
    return difference > max(SMALLEST_DIFFERENCE, NUM_STANDARD_ERRORS * error)


def seconds_per_image(runs: list[dict[str, Any]]) -> float | None:
    """Mean of the last runs, their start-up included; None where there were none."""
    num_images = sum(run["images"] for run in runs)
    return sum(run.get("seconds", 0.0) for run in runs) / num_images if num_images else None
