"""The table of parts: several pictures of one product part become one verdict.

The table is made again from all verdicts of an output at the end of a run, one file per category.
Each file is replaced in one write, so a reader finds an old or a new table of a category and
nothing in between. A run that is killed before its end leaves an older table; the next run with a
pattern makes it again.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad import tables
from vqad.inspection import sink, verdict_rows
from vqad.inspection.run_record import RunRecord, read_record
from vqad.storage import errors, files, output_layout, uris

_ORDER = {"defect": 0, "reject": 1, "normal": 2}  # the worst first
_COLUMNS = ["image", "category", "verdict", "score", "threshold", "run"]


@dataclass(kw_only=True)
class PartCounts:
    """What a table of parts was made of."""

    verdicts: Counter[str] = field(default_factory=Counter)  # of parts
    unmatched: int = 0  # images that the pattern doesn't match
    example: str = ""  # one of them

    def record(self) -> dict[str, int]:
        """For the summary and run.json."""
        counts = {verdict: self.verdicts[verdict] for verdict in ("normal", "defect", "reject")}
        return counts | {"unmatched_images": self.unmatched}


@dataclass(frozen=True, kw_only=True)
class PartNames:
    """How the images of an output get the names of their parts."""

    pattern: re.Pattern[str]
    archive: str  # URI: names are found in the paths below it

    def of(self, image: str) -> str:
        """The name of an image's part; "" if it is in none."""
        return part_of(image, self.pattern, self.archive)


def names_of(record: RunRecord) -> PartNames | None:
    """The names of parts as a run was asked for; None if it was not asked for parts."""
    try:
        pattern = re.compile(record.asked("part_pattern"))
    except re.error:  # somebody has changed the record
        return None
    if not pattern.groups:
        return None
    return PartNames(pattern=pattern, archive=record.asked("archive"))


def read(output: str) -> dict[str, pa.Table]:
    """The parts of each category. What can't be read as a table of parts is passed over."""
    root = output_layout.product_parts_folder(output)
    found = {}
    for folder in files.list_names(root) if files.exists(root) else ():
        uri = output_layout.product_parts(output, folder)
        try:
            data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
            table = pq.read_table(pa.BufferReader(data)).select(tables.PARTS.names)
            (category,) = pc.unique(table["category"]).to_pylist()
        except (errors.FetchError, ValueError, KeyError, OSError):
            continue
        found[category] = table
    return found


def make_again(output: str, check: Callable[[], None]) -> PartCounts | None:
    """Make the table again as the latest run did; None if that was not asked for parts."""
    names = names_of(read_record(output))
    if names is None:
        return None
    return make(output, names.pattern.pattern, names.archive, check)


def make(output: str, pattern: str, archive: str, check: Callable[[], None]) -> PartCounts:
    """Make the table again. ``check`` is called before each write, and raises to end it."""
    counts, written = PartCounts(), set[str]()
    found = (rows for rows in verdict_rows.read(output, []) if len(rows))
    for folder, parts in groupby(found, key=_folder):
        # The verdicts of a category lie in one folder, so one category is in memory at a time.
        rows = list(_of_category(parts, re.compile(pattern), archive, counts))
        if rows:
            check()
            table = pa.Table.from_pylist(rows, schema=tables.PARTS)
            sink.write_table(output_layout.product_parts(output, folder), table)
            written.add(folder)
    _remove_others(output, written, check)
    return counts


def _folder(rows: pa.Table) -> str:
    return output_layout.folder_of_part(rows["part"][0].as_py())


def _remove_others(output: str, written: set[str], check: Callable[[], None]) -> None:
    """Remove the tables of categories that have no part any more."""
    root = output_layout.product_parts_folder(output)
    for folder in files.list_names(root) if files.exists(root) else ():
        if folder not in written:
            check()
            files.delete(output_layout.product_parts(output, folder))


def _of_category(
    parts: Iterator[pa.Table], pattern: re.Pattern[str], archive: str, counts: PartCounts
) -> Iterator[dict[str, Any]]:
    """The rows of a category's parts, sorted by name."""
    found: dict[str, dict[str, Any]] = {}
    for rows in parts:
        for row in rows.select(_COLUMNS).to_pylist():
            name = part_of(row["image"], pattern, archive)
            if name:
                found[name] = _joined(found.get(name), row | {"part": name})
            else:
                counts.unmatched += 1
                counts.example = counts.example or row["image"]
    for _, row in sorted(found.items()):
        counts.verdicts[row["verdict"]] += 1
        yield row


def part_of(image: str, pattern: re.Pattern[str], archive: str) -> str:
    """The name of an image's part; "" if the pattern doesn't match its path.

    The path is that below the archive, where a shard counts as a folder; an image that is not below
    it has its whole path.
    """
    shard, separator, member = image.partition("#")
    try:
        path = uris.relative(shard, archive)
    except ValueError:
        path = uris.path_of(shard)
    if separator:
        path = f"{path}/{uris.decoded(member.partition(';')[0])}"
    match = pattern.search(path)
    name = (match.group(1) if match else None) or ""
    # A name that is not UTF-8 has half surrogate pairs, which no table can have.
    return "" if any("\ud800" <= each <= "\udfff" for each in name) else name


def _joined(before: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """A part's row with one more image: verdict, image and score are those of the worst one."""
    is_reject = row["verdict"] == "reject"
    if before is None:
        return row | {"num_images": 1, "num_rejects": int(is_reject)}
    worst = min(before, row, key=_rank)
    return worst | {
        "num_images": before["num_images"] + 1,
        "num_rejects": before["num_rejects"] + is_reject,
        "run": max(before["run"], row["run"]),  # names of runs begin with the time
    }


def _rank(row: dict[str, Any]) -> tuple[int, float, str]:
    """A key that puts the worst image first."""
    score, threshold = row["score"], row["threshold"]
    if score is None:
        severity = 0.0
    else:
        severity = score / threshold if threshold else math.inf * (score > 0) if score else 0.0
    return _ORDER[row["verdict"]], -severity, row["image"]
