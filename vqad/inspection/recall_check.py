"""The recall check: would a version of a detector lose defects that people have confirmed?

Confirmed defects train nothing and set no threshold. They only speak against a version that calls
one of them normal which the version in force finds. The score by a version is taken from the
verdict row where that version, or one with the same scores, has inspected the image, else from the
rows of a shadow run, else the version inspects these few images now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad.detection import saved_detector
from vqad.detection.same_fit import have_same_scores
from vqad.detection.saved_categories import current_version, has_detector
from vqad.detector import Detector
from vqad.images import sources
from vqad.inspection import stages, stored_reviews, verdict_rows, whole_rows
from vqad.inspection.batches import batch_of, sources_of
from vqad.inspection.reviewed_scores import is_outdated
from vqad.inspection.reviews import Review
from vqad.inspection.summary import Say
from vqad.storage import files, output_layout

Row = dict[str, Any]
COLUMNS: Final = ("image", "score", "model_version", "source_etag", "inspected_at")


@dataclass(frozen=True, kw_only=True)
class RecallCheck:
    """The confirmed defects of an output and category, by what a version makes of them."""

    confirmed: int = 0  # unknown ones included
    lost: list[str] = field(default_factory=list)  # URIs: the version in force finds them
    missed: list[str] = field(default_factory=list)  # URIs: neither finds them
    unknown: dict[str, str] = field(default_factory=dict)  # why there is no score, by URI

    def reasons(self, output: str) -> list[str]:
        """What speaks against the version, for people; nothing if it loses no defect."""
        if not self.lost:
            return []
        return [
            f"it would lose {len(self.lost)} of {self.confirmed} confirmed defects of {output}, "
            f"the first: {self.lost[0]}"
        ]

    def doubts(self, output: str) -> list[str]:
        """What could not be checked, for people."""
        if not self.unknown:
            return []
        image, why = min(self.unknown.items())
        return [
            f"warning: {len(self.unknown)} of {self.confirmed} confirmed defects of {output} could "
            f"not be checked, the first: {image}: {why}"
        ]


def recall_check(output: str, models: str, category: str, version: str, say: Say) -> RecallCheck:
    """Look at the confirmed defects of an output; raises ArchiveError and DetectorError."""
    rows, unusable = confirmed_defects(output, category, stored_reviews.read(output, say, category))
    num_confirmed = len(rows) + len(unusable)
    now = current_version(models, category) if has_detector(models, category) else ""
    if not rows:
        return RecallCheck(confirmed=num_confirmed, unknown=unusable)
    by_version = Scores(output=output, models=models, category=category, rows=rows)
    found, unknown = by_version.found_by(version, inspect=True)
    not_found = [image for image, is_found in found.items() if not is_found]
    # Only what this version does not find has to be asked of the version in force.
    before = by_version.only(not_found).found_by(now, inspect=True)[0] if now else {}
    return RecallCheck(
        confirmed=num_confirmed,
        lost=[image for image in not_found if before.get(image)],
        missed=[image for image in not_found if not before.get(image)],
        unknown=unusable | unknown,
    )


def confirmed_defects(
    output: str, category: str, reviews: Mapping[str, Review]
) -> tuple[list[Row], dict[str, str]]:
    """The verdict rows of a category's confirmed defects, sorted by image.

    Also by image, why others have no row that counts.
    """
    wanted = {
        image: each
        for image, each in reviews.items()
        if each.mark == "defect" and each.category == category
    }
    unusable = dict.fromkeys(wanted, "the output has no score of it")
    usable = []
    for row in rows_of(output, category, wanted):
        if is_outdated(wanted[row["image"]], row["source_etag"]):
            unusable[row["image"]] = "its file has changed since it was reviewed"
        else:
            usable.append(row)
            del unusable[row["image"]]
    return usable, unusable


def rows_of(output: str, category: str, images: Mapping[str, Any]) -> list[Row]:
    """The latest row of each of these images that has a score, sorted by image."""
    wanted, latest = pa.array(list(images), pa.string()), dict[str, Row]()
    if not images or not files.exists(output_layout.table(output, "verdicts")):
        return []
    for rows in verdict_rows.read(output, []):
        is_wanted = pc.and_(pc.is_in(rows["image"], wanted), pc.equal(rows["category"], category))
        some = rows.filter(pc.and_(is_wanted, pc.is_valid(rows["score"]))).select(COLUMNS)
        for row in some.to_pylist():
            other = latest.get(row["image"], row)
            latest[row["image"]] = max(row, other, key=lambda each: each["inspected_at"])
    return sorted(latest.values(), key=lambda row: row["image"])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a few images of one category, by any version of its detector."""

    output: str
    models: str
    category: str
    rows: Sequence[Row]

    def only(self, images: Sequence[str]) -> "Scores":
        """The same of some of the images."""
        rows = [row for row in self.rows if row["image"] in set(images)]
        return Scores(output=self.output, models=self.models, category=self.category, rows=rows)

    def found_by(self, version: str, *, inspect: bool) -> tuple[dict[str, bool], dict[str, str]]:
        """True for each image that a version calls a defect, and why others have no score.

        Unless ``inspect``, the images without a stored score are the others.
        """
        threshold = saved_detector.load_settings(self.models, self.category, version).threshold
        scores = self._stored(version)
        left = [row for row in self.rows if row["image"] not in scores]
        unknown = {row["image"]: "no score by this version is stored" for row in left}
        if inspect and left:
            new, unknown = _inspected(self.models, self.category, version, left)
            scores |= new
        return {image: each > threshold for image, each in scores.items()}, unknown

    def _stored(self, version: str) -> dict[str, float]:
        """Scores from the verdicts, and from those of a shadow run."""
        same = {
            each: have_same_scores(self.models, self.category, each, version)
            for each in {row["model_version"] for row in self.rows}
        }
        scores = {row["image"]: row["score"] for row in self.rows if same[row["model_version"]]}
        left = {row["image"]: row for row in self.rows if row["image"] not in scores}
        for row in rows_of(output_layout.shadow(self.output), self.category, left):
            is_same_file = row["source_etag"] == left[row["image"]]["source_etag"]
            if row["model_version"] == version and is_same_file:
                scores[row["image"]] = row["score"]
        return scores


def _inspected(
    models: str, category: str, version: str, rows: Sequence[Row]
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by a version that inspects the images now, and why others have none."""
    detector = Detector.load(models, category, version=version)
    scores, unknown = dict[str, float](), dict[str, str]()
    for image, decoded in _decoded(rows, detector):
        form = detector.settings.image_form
        if form.tiling is not None and not decoded["error"]:
            opened = whole_rows.opened(decoded, form)
            decoded = opened.row
            if opened.image is not None:
                scores[image] = detector.inspect_whole(opened.image)[0].scores[0]
                continue
        if decoded["error"]:
            unknown[image] = decoded["error_detail"] or decoded["error"]
        else:
            batch = batch_of([decoded], detector.settings)
            scores[image] = detector.inspect(batch, sources_of([decoded])).scores[0]
    return scores, unknown


def _decoded(rows: Sequence[Row], detector: Detector) -> Iterator[tuple[str, Row]]:
    category = detector.settings.category
    forms = {category: detector.settings.image_form}
    for row, data, reason in sources.read(rows):
        if reason:
            yield row["image"], stages.rejected("fetch_failed", reason)
        else:
            yield row["image"], stages.decode_bytes(data, category, forms)
