"""Scores of normal images from nights with reviews.

A night says what scores normal images have, if what is known to be no normal image is left out:

- Every image that was judged normal counts as normal, unless a reviewer found a defect in it.
- Of the alarms, those that a reviewer called false count as normal, and confirmed defects do not.
- An alarm that nobody reviewed, or of which the reviewer was unsure, counts neither way.

A confirmed false alarm never counts without the rest of its night. The marked images are the
largest scores of thousands. Among a few held-out images they would look like a large share of all
normal images, and the threshold would rise far above what the rate of false alarms needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32
from numpy import ndarray

from vqad.inspection.reviews import Review


@dataclass(frozen=True, kw_only=True)
class ReviewedScores:
    """The scores of a category's images in one or more nights, by what they are known to be."""

    normal: Float32[ndarray, " n"]  # confirmed false alarms included
    defects: Float32[ndarray, " d"]  # confirmed by a reviewer
    unreviewed: Float32[ndarray, " u"]  # alarms that may be either, and what a reviewer left open
    num_false_alarms: int  # of the normal ones
    num_outdated: int  # reviews that do not count, because their image's file has changed since

    @property
    def num_images(self) -> int:
        """All images that were judged."""
        return len(self.normal) + len(self.defects) + len(self.unreviewed)

    def false_alarm_rates(self, threshold: float) -> tuple[float, float]:
        """Smallest and largest share of the normal images that may be above a threshold.

        For the smallest, everything unreviewed is a defect, for the largest, it is normal. They are
        equal if nothing above or below is left open. NaN if there is no normal image.
        """
        smallest, largest = self.normal, np.concatenate([self.normal, self.unreviewed])
        limit = np.float32(threshold)  # in the type of the tables
        low, high = (
            float(np.mean(each > limit)) if len(each) else math.nan for each in (smallest, largest)
        )
        return low, high


def reviewed_scores(rows: pa.Table, reviews: Mapping[str, Review]) -> ReviewedScores:
    """The scores of verdict rows with the marks of their images; rejects have no score.

    ``rows`` are of one category and of detectors whose scores can be compared. They need the
    columns image, verdict, score and source_etag.
    """
    rows = rows.filter(pc.is_valid(rows["score"]))
    marks, num_outdated = _marks(rows, reviews)
    alarms = rows["verdict"].combine_chunks().to_numpy(zero_copy_only=False) == "defect"
    scores = np.array(rows["score"].combine_chunks().to_numpy(zero_copy_only=False), np.float32)
    is_false_alarm = alarms & (marks == "false_alarm")
    is_defect = marks == "defect"
    is_normal = (~alarms & (marks != "defect") & (marks != "unsure")) | is_false_alarm
    return ReviewedScores(
        normal=scores[is_normal],
        defects=scores[is_defect],
        unreviewed=scores[~is_normal & ~is_defect],
        num_false_alarms=int(is_false_alarm.sum()),
        num_outdated=num_outdated,
    )


def is_outdated(review: Review, source_etag: str) -> bool:
    """True if an image's file is not the one that was reviewed, as far as that is known."""
    return bool(review.source_etag) and review.source_etag != source_etag


def _marks(rows: pa.Table, reviews: Mapping[str, Review]) -> tuple[ndarray, int]:
    """The mark of each row, "" without one, and the number of reviews that are outdated."""
    marks, num_outdated = np.full(len(rows), "", object), 0
    # Reviews are few and rows are many: only rows that have one become Python objects.
    has_review = pc.is_in(rows["image"], pa.array(list(reviews), pa.string()))
    for at in np.flatnonzero(has_review.to_numpy(zero_copy_only=False)).tolist():
        review = reviews[rows["image"][at].as_py()]
        if is_outdated(review, rows["source_etag"][at].as_py()):
            num_outdated += 1
        else:
            marks[at] = review.mark
    return marks, num_outdated
