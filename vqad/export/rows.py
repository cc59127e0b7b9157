"""The verdict rows of an output with the masks of their regions, part by part."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vqad.export.source_masks import SourceMask, source_masks
from vqad.inspection import ledger, map_rows, verdict_rows
from vqad.storage import files, output_layout
from vqad.storage.errors import ArchiveError

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One image with a verdict, and the masks of its regions in the order of its row."""

    row: Row
    masks: list[SourceMask] | None  # None if the row has regions and there is no map of them


@dataclass(kw_only=True)
class Left:
    """What an output has that can't be exported."""

    superseded: dict[str, set[str]]  # older rows of images that have two, by part
    damaged: list[str]  # parts of the verdicts
    rejects: int = 0

    @property
    def num_superseded(self) -> int:
        """Number of older rows."""
        return sum(map(len, self.superseded.values()))


def look(output: str) -> Left:
    """Find the rows that don't count; raises ArchiveError where an output has no verdicts."""
    if not files.exists(output_layout.table(output, "verdicts")):
        raise ArchiveError(f"{output} has no verdicts; inspect an archive into it first")
    found = ledger.read(output)
    if not found.entries:
        raise ArchiveError(f"{output} has no readable verdicts; inspect an archive into it")
    return Left(superseded={part: set(each) for part, each in found.superseded.items()}, damaged=[])


def batches(output: str, left: Left) -> Iterator[list[Exported]]:
    """The images of each part of the verdicts; what is left out is added to ``left``.

    The maps of one part are read at a time, a few of them in memory.
    """
    for table in verdict_rows.read(output, left.damaged):
        rows = table.to_pylist()
        if not rows:
            continue
        old = left.superseded.get(rows[0]["part"], set())
        judged = [row for row in rows if row["verdict"] != "reject" and row["image"] not in old]
        left.rejects += sum(row["verdict"] == "reject" and row["image"] not in old for row in rows)
        yield list(_exported(output, judged))


def _exported(output: str, rows: list[Row]) -> Iterator[Exported]:
    defects = {row["image"]: row for row in rows if row["regions"]}
    found: dict[str, list[SourceMask] | None] = {}
    if defects:
        part = rows[0]["part"]
        for image, anomaly_map in map_rows.of_part(output, part, set(defects)):
            found[image] = source_masks(anomaly_map, defects[image])
    for row in rows:
        yield Exported(row=row, masks=found.get(row["image"]) if row["regions"] else [])
