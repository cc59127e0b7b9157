"""Choosing a threshold: from the scores of a detector's record, or from those of nights.

Of a night, every image counts that is not known to be defective: those that were judged normal,
false alarms that a reviewer confirmed, and alarms that nobody has reviewed. The last ones may be
defects. So with them a rate of false alarms is a bound: the true rate is lower, and the threshold
higher than it needs to be. It does not change while the threshold is applied to the same night.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32
from numpy import ndarray

from vqad.detection import calibrate
from vqad.detection.false_alarms import Promise, promise_of, threshold_for
from vqad.detection.fit_record import ThresholdRecord
from vqad.detection.same_fit import SameFit
from vqad.detection.settings import GREY_LEVELS
from vqad.inspection import stored_reviews, verdict_rows
from vqad.inspection.reviewed_scores import reviewed_scores
from vqad.inspection.summary import Say
from vqad.inspection.threshold_job import ThresholdJob

# Scores of nights that a detector's record keeps for p-values: drawn at random if there are more.
MOST_KEPT_SCORES: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Known:
    """Scores of images that are normal as far as is known."""

    scores: Float32[ndarray, " n"]
    source: list[str]
    num_unreviewed: int = 0  # alarms among them
    num_defects: int = 0  # confirmed ones, not among them
    num_others: int = 0  # rows of detectors whose scores can't be compared
    from_nights: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold and the reason for it."""

    threshold: float
    record: ThresholdRecord
    kept_scores: list[float]  # of nights, for p-values
    known: Known


def choose(job: ThresholdJob, fit: SameFit, say: Say) -> Choice:
    """The threshold that a job asks for. Raises RateError, ValueError and ArchiveError."""
    known = of_nights(job, fit, say) if job.nights else of_record(fit)
    smallest = calibrate.SMALLEST_THRESHOLD if fit.settings.unit == GREY_LEVELS else 0.0
    threshold, rule, asked = _threshold(job, known, smallest)
    promise = promise_of(known.scores, threshold) if len(known.scores) else None
    record = ThresholdRecord(
        rule=rule,
        source=known.source,
        num_scores=len(known.scores),
        asked=asked,
        rate=promise.rate if promise else None,
        deviation=promise.deviation if promise else None,
        is_bound=known.num_unreviewed > 0,
        from_version=fit.version,
    )
    kept = _some(known.scores) if known.from_nights else fit.settings.found.night_scores
    return Choice(threshold=threshold, record=record, kept_scores=kept, known=known)


def _threshold(job: ThresholdJob, known: Known, smallest: float) -> tuple[float, str, float]:
    """Threshold, rule and what was asked for."""
    if job.value is not None:
        # In the type of the tables, so that comparing their columns gives the same verdicts.
        return float(np.float32(job.value)), "value", job.value
    if job.false_alarms is not None:
        found = threshold_for(known.scores, job.false_alarms, smallest=smallest)
        return found, "conformal", job.false_alarms
    assert job.per_night is not None
    found = per_night(known.scores, job.per_night * len(job.nights), smallest=smallest)
    return found, "per night", float(job.per_night)


def per_night(scores: Float32[ndarray, " n"], num: int, *, smallest: float) -> float:
    """The lowest threshold with at most ``num`` scores above it. Raises ValueError."""
    if num >= len(scores):
        raise ValueError(
            f"the nights have {len(scores)} images that are not confirmed defects, which is not "
            f"more than the {num} asked for; give a smaller --per-night"
        )
    return max(smallest, float(np.sort(scores)[::-1][num]))


def of_record(fit: SameFit) -> Known:
    """The scores that the detector's record has."""
    found = fit.settings.found
    source = ["held-out images"]
    if found.night_scores and found.threshold:
        source = found.threshold.source
    elif fit.settings.form == "full" and found.cross_fitted_scores:
        source = ["cross-fitted images"]
    return Known(scores=np.array(fit.settings.normal_scores, np.float32), source=source)


def of_nights(job: ThresholdJob, fit: SameFit, say: Say) -> Known:
    """The scores of a category's images in the outputs of nights. Raises ValueError."""
    found = []
    num_others = 0
    for output in job.nights:
        rows = _rows_of(output, job.category)
        is_ours = pc.is_in(rows["model_version"], pa.array(fit.versions, pa.string()))
        ours = rows.filter(is_ours)
        num_others += pc.sum(pc.is_valid(rows.filter(pc.invert(is_ours))["score"])).as_py() or 0
        reviews = stored_reviews.read(output, say, job.category)
        found.append(reviewed_scores(ours, reviews))
    scores = np.concatenate([part for each in found for part in (each.normal, each.unreviewed)])
    if not len(scores):
        raise ValueError(
            f"no image of {', '.join(job.nights)} was judged by {job.category}'s version "
            f"{fit.version}, or by one of the same weights ({num_others} were by others); inspect "
            "a night with it first"
        )
    return Known(
        scores=scores,
        source=sorted(job.nights),
        num_unreviewed=sum(len(each.unreviewed) for each in found),
        num_defects=sum(len(each.defects) for each in found),
        num_others=num_others,
        from_nights=True,
    )


def _rows_of(output: str, category: str) -> pa.Table:
    damaged: list[str] = []
    columns = ["image", "category", "verdict", "score", "source_etag", "model_version"]
    parts = [rows.select(columns) for rows in verdict_rows.read(output, damaged)]
    if not parts:
        raise ValueError(f"{output} has no verdicts; give the output of an inspection")
    rows = pa.concat_tables(parts)
    return rows.filter(pc.equal(rows["category"], category))


def _some(scores: Float32[ndarray, " n"]) -> list[float]:
    if len(scores) > MOST_KEPT_SCORES:
        rng = np.random.default_rng(0)
        scores = rng.choice(scores, MOST_KEPT_SCORES, replace=False)
    kept: list[float] = np.sort(scores).tolist()
    return kept


def explained(choice: Choice, unit: str) -> Sequence[str]:
    """What a person should know about the choice."""
    known, record = choice.known, choice.record
    lines = [f"threshold {choice.threshold:g} {unit}, by {len(known.scores)} scores"]
    if record.rate is not None and record.deviation is not None:
        promise = Promise(
            num_scores=record.num_scores, rate=record.rate, deviation=record.deviation
        )
        most = "at most " if record.is_bound else ""
        lines.append(
            f"{most}{promise.in_ten_thousand} false alarms are expected among 10,000 normal "
            f"images, with a deviation of {round(10_000 * promise.deviation)}"
        )
    if known.num_unreviewed:
        lines.append(
            f"{known.num_unreviewed} alarms are not reviewed and count as normal images here, so "
            "the rate of false alarms is a bound: review them for a lower threshold"
        )
    if known.num_others:
        lines.append(f"{known.num_others} images were judged by other detectors and don't count")
    return lines
