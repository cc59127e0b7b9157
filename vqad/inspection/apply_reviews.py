"""`vqad review apply`: marks from the page become reviews of an output, and are counted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad.detection.saved_categories import current_version, has_detector
from vqad.inspection import recall_check, reviews, stored_reviews, verdict_rows
from vqad.inspection.recall_check import Scores
from vqad.inspection.reviewed_scores import reviewed_scores
from vqad.inspection.reviews import Review, ReviewError
from vqad.inspection.summary import Say
from vqad.storage import files, output_layout
from vqad.storage.errors import ArchiveError
from vqad.storage.retries import errors_at

LARGEST_FILE_BYTES: Final = 2**25
_COLUMNS: Final = ("image", "category", "verdict", "score", "source_etag", "run")
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What came of a file of reviews."""

    num_applied: int  # lines
    refused: list[str]  # a text for each line that was refused
    is_new: bool  # False if the same reviews were there already
    categories: dict[str, dict[str, Any]]  # counts by category

    def summary(self) -> dict[str, Any]:
        """The promised summary."""
        return {
            "applied": self.num_applied,
            "refused": len(self.refused),
            "new": self.is_new,
            "categories": self.categories,
        }


def apply_reviews(place: str, output: str, models: str, say: Say) -> Applied:
    """Store the reviews of a file whose images have a verdict, and count what is known now.

    Nothing of a file with a bad line is stored. Raises ReviewError, also if no image has a verdict
    row in ``output``, and ArchiveError.
    """
    with errors_at(place):
        data = files.read_bytes(place, max_bytes=LARGEST_FILE_BYTES)
    found = reviews.parse(data, place)
    if not files.exists(output_layout.table(output, "verdicts")):
        raise ArchiveError(f"{output} has no verdicts; give the output that the page is about")
    damaged: list[str] = []
    rows = verdict_rows.columns(output, _COLUMNS, damaged)
    accepted, refused = _checked(found, _rows_by_image(rows, found), output)
    if not accepted:
        raise ReviewError(
            f"{place}: none of {len(found)} reviews is of an image of {output}, the first: "
            f"{refused[0]}; give the output that the page is about"
        )
    for part in damaged:
        say(f"warning: passed over {part}, which can't be read")
    for line in refused[:_MOST_SHOWN]:
        say(f"refused: {line}")
    is_new = stored_reviews.store(output, accepted)
    known = stored_reviews.read(output, say)
    concerned = sorted({each.category for each in accepted})
    counts = {each: _counts(output, models, each, rows[each], known, say) for each in concerned}
    return Applied(num_applied=len(accepted), refused=refused, is_new=is_new, categories=counts)


def _rows_by_image(rows: Mapping[str, pa.Table], found: list[Review]) -> dict[str, dict[str, Any]]:
    wanted = pa.array([each.image for each in found], pa.string())
    some = (table.filter(pc.is_in(table["image"], wanted)) for table in rows.values())
    return {row["image"]: row for table in some for row in table.to_pylist()}


def _checked(
    found: list[Review], rows: Mapping[str, dict[str, Any]], output: str
) -> tuple[list[Review], list[str]]:
    """The reviews of images with a verdict, with the tag of their file, and why others are none."""
    accepted, refused = [], []
    for each in found:
        row = rows.get(each.image)
        reason = stored_reviews.problem(each, row["category"] if row else None, output)
        if reason or row is None:
            refused.append(reason)
            continue
        # Of a later run, the file may be another than the one that was looked at.
        is_same_run = row["run"] == each.run
        accepted.append(replace(each, source_etag=row["source_etag"] if is_same_run else ""))
    return accepted, refused


def _counts(
    output: str, models: str, category: str, rows: pa.Table, known: Mapping[str, Review], say: Say
) -> dict[str, Any]:
    """What is known of a category's images, from all reviews of the output."""
    scores = reviewed_scores(rows, known)
    counts = {
        "normal": len(scores.normal),
        "false_alarms": scores.num_false_alarms,
        "defects": len(scores.defects),
        "unreviewed": len(scores.unreviewed),
        "outdated": scores.num_outdated,
        "missed_defects": _num_missed(output, models, category, known),
    }
    say(
        f"{category}: {counts['normal']} images count as normal, {counts['false_alarms']} of them "
        f"confirmed false alarms; {counts['defects']} confirmed defects; {counts['unreviewed']} "
        "unreviewed alarms count neither way"
    )
    if counts["missed_defects"]:
        say(
            f"{category}: the version in force calls {counts['missed_defects']} of the confirmed "
            "defects normal; vqad threshold sets a lower threshold"
        )
    return counts


def _num_missed(output: str, models: str, category: str, known: Mapping[str, Review]) -> int | None:
    """Confirmed defects that the version in force calls normal; None without such a version.

    A defect of which no score by this version is stored does not count.
    """
    if not has_detector(models, category):
        return None
    rows, _ = recall_check.confirmed_defects(output, category, known)
    by_version = Scores(output=output, models=models, category=category, rows=rows)
    found, _ = by_version.found_by(current_version(models, category), inspect=False)
    return sum(not is_found for is_found in found.values())
