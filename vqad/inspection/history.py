"""The run history: records of earlier nights, in the same output and in the outputs beside it.

A store may have thousands of outputs. So one level of folders is listed, and a bounded number of
records is read, those of the newest names first. A night costs at most ``MOST_PAGES`` requests for
the listing, one for the output's own runs and up to ``MOST_RUNS`` reads of them. For each of up to
``MOST_OUTPUTS`` other outputs it reads the record, and if that run inspected nothing, lists the
runs and reads two.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from vqad.inspection.job import InspectJob
from vqad.storage import errors, files, json_objects, output_layout, uris

NUM_RUNS: Final = 7  # nights of a week
MOST_PAGES: Final = 20  # of 1,000 names each
MOST_OUTPUTS: Final = 32
MOST_RUNS: Final = 32  # of the output's own
_MOST_RUNS_OF_ANOTHER: Final = 2
_NUM_READERS: Final = 8  # threads
_LARGEST_RECORD_BYTES: Final = 16 * 2**20

# A year, a month and a day with one kind of separator, or none, and perhaps the time of day; or the
# number of a week.
_DATE: Final = re.compile(
    r"(?<!\d)(?:19|20)\d\d(?:"
    r"([-_./]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T_ -]?(?:[01]\d|2[0-3])[-:_]?[0-5]\d(?:[-:_]?[0-5]\d)?Z?)?"
    r"|[-_/]?[wW](?:0[1-9]|[1-4]\d|5[0-3])"
    r")(?!\d)"
)


def without_dates(text: str) -> str:
    """The text with ``*`` in the place of each date."""
    return _DATE.sub("*", text)


def archive_pattern(job: InspectJob) -> dict[str, str | None]:
    """What the archives of comparable nights share."""
    return {
        "archive": without_dates(job.archive),
        "include": None if job.include is None else without_dates(job.include),
        "category_pattern": job.routing.category_pattern,
    }


@dataclass(frozen=True, kw_only=True)
class Night:
    """The night whose earlier ones are looked for."""

    run: str  # names of runs begin with the time of their start
    output: str
    pattern: dict[str, str | None]  # `archive_pattern`
    categories: frozenset[str]

    def is_comparable(self, record: dict[str, Any]) -> bool:
        """True for the record of an earlier inspection of such an archive."""
        statistics = record.get("statistics")
        return (
            record.get("command") == "inspect"
            and str(record.get("run", "")) < self.run
            and record.get("archive_pattern") == self.pattern
            and isinstance(statistics, dict)
            and not self.categories.isdisjoint(statistics)
        )


def folder_above(output: str) -> str:
    """The folder that an output is in; "" where there is none, as for a whole bucket."""
    above, _, name = output.rstrip("/").rpartition("/")
    return above if name and not above.rstrip("/").endswith(":") else ""


def earlier_nights(history: str, night: Night) -> list[dict[str, Any]]:
    """Records of the latest comparable nights, latest first. Raises ArchiveError.

    Those are earlier runs in the night's own output, and the latest run with images of each output
    in the folder ``history``.
    """
    own = [each for each in last_runs(night.output) if night.is_comparable(each)]
    others = _of_other_outputs(history, night) if history else []
    found = sorted([*own, *others], key=lambda each: str(each["run"]), reverse=True)
    return found[:NUM_RUNS]


def _of_other_outputs(history: str, night: Night) -> list[dict[str, Any]]:
    outputs = [uris.join(history, name) for name in _newest_first(history, night.output)]
    chosen = [each for each in outputs if uris.path_of(each) != uris.path_of(night.output)]
    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        for at in range(0, min(len(chosen), MOST_OUTPUTS), _NUM_READERS):
            # The names are sorted: once there are enough nights, no other one is newer.
            if len(found) >= NUM_RUNS:
                break
            records = pool.map(_latest_run, chosen[at : min(at + _NUM_READERS, MOST_OUTPUTS)])
            found += [each for each in records if night.is_comparable(each)]
    return found


def _newest_first(history: str, output: str) -> list[str]:
    """Names of folders, those that differ from the output's own by their date alone first."""
    if not files.exists(history):
        return []
    folders = files.list_children(history, most_pages=MOST_PAGES)
    names = [name for name, is_folder in folders.items() if is_folder and name.strip(".")]
    names.sort(reverse=True)
    own = without_dates(uris.path_of(output).rpartition("/")[2])
    # Sorting keeps the order of those that are equal in this respect.
    return sorted(names, key=lambda name: without_dates(name) != own)


def _latest_run(output: str) -> dict[str, Any]:
    """The record of an output's latest run with images; without keys if there is none."""
    record = _record(output_layout.latest_run_record(output))
    if not record or record.get("images"):
        return record
    try:
        runs = _records(output, most=_MOST_RUNS_OF_ANOTHER)
        return next((each for each in runs if each.get("images")), {})
    except errors.ArchiveError:
        return {}


def last_runs(output: str) -> Iterator[dict[str, Any]]:
    """Records of the last runs of an output that inspected at least one image, latest first."""
    records = _records(output, most=MOST_RUNS)
    return islice((each for each in records if each.get("images")), NUM_RUNS)


def _records(output: str, *, most: int) -> Iterator[dict[str, Any]]:
    folder = output_layout.runs(output)
    names = files.list_names(folder) if files.exists(folder) else []
    chosen = [name for name in sorted(names, reverse=True) if name.endswith(".json")]
    return (_record(uris.join(folder, name)) for name in chosen[:most])


def _record(uri: str) -> dict[str, Any]:
    try:
        return json_objects.decoded(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
    except (errors.FetchError, ValueError):
        return {}


def seconds_per_image(runs: Sequence[dict[str, Any]]) -> float | None:
    """Mean of the last runs, their start-up included; None where there were none."""
    num_images = sum(run["images"] for run in runs)
    return sum(run.get("seconds", 0.0) for run in runs) / num_images if num_images else None
