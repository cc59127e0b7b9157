"""The page by part, if the latest run was asked for parts: which images belong together.

The table of parts has their verdicts, and the run's record has the pattern that names the part of
an image. A part that has a card has cards of all its images, so that they can be seen side by side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad.inspection import product_parts, verdict_rows
from vqad.inspection.product_parts import PartNames
from vqad.inspection.run_record import RunRecord
from vqad.report.severity import severity

Row = dict[str, Any]
_COLUMNS: Final = ("part", "verdict", "num_images", "num_rejects")


@dataclass(frozen=True, kw_only=True)
class PartGroups:
    """The parts of an output."""

    names: PartNames
    tables: dict[str, pa.Table]  # by category, with the columns above

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Numbers of parts by category and verdict."""
        return {
            category: Counter(table["verdict"].to_pylist())
            for category, table in sorted(self.tables.items())
        }

    def rows(self, category: str, names: Sequence[str]) -> dict[str, Row]:
        """The rows of these parts, by name."""
        table = self.tables.get(category)
        if table is None:
            return {}
        wanted = pa.array(list(names), pa.string())
        found = table.filter(pc.is_in(table["part"], wanted)).to_pylist()
        return {row["part"]: row for row in found}

    def of_images(self, rows: Sequence[Row]) -> dict[str, Row]:
        """The row of each image's part, by the image; none of an image that is in no part."""
        names: dict[str, dict[str, str]] = {}  # of parts, by category and image
        for row in rows:
            names.setdefault(row["category"], {})[row["image"]] = self.names.of(row["image"])
        found: dict[str, Row] = {}
        for category, of_image in names.items():
            parts = self.rows(category, list(set(of_image.values())))
            found |= {image: parts[name] for image, name in of_image.items() if name in parts}
        return found


def part_groups(output: str, record: RunRecord) -> PartGroups | None:
    """The parts of an output; None if its latest run was not asked for any."""
    names = product_parts.names_of(record)
    if names is None:
        return None
    tables = {
        category: table.select(_COLUMNS) for category, table in product_parts.read(output).items()
    }
    return PartGroups(names=names, tables=tables)


def whole_parts(
    output: str, chosen: Mapping[str, Sequence[Row]], groups: PartGroups, *, num_cards: int
) -> list[Row]:
    """The rows that get a card, by whole parts: up to ``num_cards`` of each category.

    ``chosen`` are the rows of each category that would get a card by themselves.
    """
    wanted: dict[str, set[str]] = {}
    kept: dict[str, Row] = {}
    for category, rows in chosen.items():
        picked, images = _picked(rows, groups.of_images(rows), num_cards)
        wanted[category] = picked
        kept |= {row["image"]: row for row in rows if row["image"] in images}
    for of_part in verdict_rows.read(output, []):
        for category, rows in verdict_rows.by_category(of_part).items():
            names = wanted.get(category) or set()
            is_new = [
                image not in kept and groups.names.of(image) in names
                for image in (rows["image"].to_pylist() if names else ())
            ]
            if any(is_new):
                some = rows.filter(pa.array(is_new))
                for row, each in zip(some.to_pylist(), severity(some).tolist(), strict=True):
                    kept[row["image"]] = row | {"severity": each, "borderline": False}
    return list(kept.values())


def _picked(
    rows: Sequence[Row], parts: Mapping[str, Row], num_cards: int
) -> tuple[set[str], set[str]]:
    """Names of the parts that get cards, and the images among ``rows`` that do."""
    picked, images, room = set[str](), set[str](), num_cards
    for row in _mixed(rows):
        part = parts.get(row["image"])
        if part is None or part["part"] not in picked:
            size = part["num_images"] if part else 1
            if size > room:
                continue  # a smaller part may still fit
            room -= size
            picked |= {part["part"]} if part else set()
        images.add(row["image"])
    if not images:  # each part has more images than there may be cards
        return picked, {row["image"] for row in rows}
    return picked, images


def _mixed(rows: Sequence[Row]) -> list[Row]:
    """Severe, borderline and rejected images in one order that takes of each kind its share."""
    kinds: dict[tuple[bool, bool], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["borderline"], row["score"] is None), []).append(row)
    placed = [
        ((at + 0.5) / len(group), row) for group in kinds.values() for at, row in enumerate(group)
    ]
    return [row for _, row in sorted(placed, key=lambda each: each[0])]
