"""What earlier runs on an output tell of this one: odd shares of defects and rejects, and speed."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from vqad.storage import errors, files, uris

NUM_NIGHTS: Final = 7
FEWEST_IMAGES: Final = 30  # of a category, on either side, to say anything
# Guesses: far is more than four standard errors of the difference, and 5 of 100 images.
NUM_STANDARD_ERRORS: Final = 4.0
SMALLEST_DIFFERENCE: Final = 0.05
_LARGEST_RECORD_BYTES: Final = 16 * 2**20


def last_runs(output: str, *, but: str = "") -> Iterator[dict[str, Any]]:
    """Records of the last runs that inspected anything, latest first."""
    folder = uris.join(output, "runs")
    names = files.list_names(folder) if files.exists(folder) else []
    found = (
        record
        for name in sorted(names, reverse=True)
        if name.endswith(".json") and name != f"{but}.json"
        if (record := _record(uris.join(folder, name))).get("images")
    )
    return islice(found, NUM_NIGHTS)


def _record(uri: str) -> dict[str, Any]:
    try:
        found = json.loads(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
    except (errors.FetchError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def warnings(by_category: dict[str, Counter], runs: list[dict[str, Any]]) -> list[str]:
    """A line for each category whose share of defects or rejects is far from its last nights'."""
    said = []
    for category, now in sorted(by_category.items()):
        before: Counter[str] = Counter()
        for run in runs:
            before.update(run.get("categories", {}).get(category, {}))
        for verdict in ("defect", "reject"):
            if _is_far(now[verdict], now.total(), before[verdict], before.total()):
                said.append(
                    f"{category}: {now[verdict]} of {now.total()} images are {verdict}s, on the "
                    f"last nights {before[verdict]} of {before.total()}"
                )
    return said


def _is_far(now: int, of_now: int, before: int, of_before: int) -> bool:
    """Whether two shares differ by more than chance; the usual test of two proportions."""
    if min(of_now, of_before) < FEWEST_IMAGES:
        return False
    difference = abs(now / of_now - before / of_before)
    share = (now + before) / (of_now + of_before)
    error = math.sqrt(share * (1 - share) * (1 / of_now + 1 / of_before))
    return difference > max(SMALLEST_DIFFERENCE, NUM_STANDARD_ERRORS * error)


def seconds_an_image(runs: list[dict[str, Any]]) -> float | None:
    """Of the last runs together, their start included; None where there were none."""
    num_images = sum(run["images"] for run in runs)
    return sum(run.get("seconds", 0.0) for run in runs) / num_images if num_images else None
