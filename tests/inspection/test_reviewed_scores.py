"""Scores of normal images from nights with reviews, and a simulation of what they are good for."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vqad import tables
from vqad.inspection.reviewed_scores import reviewed_scores
from vqad.inspection.reviews import Mark, Review

RATE = 0.05
COLUMNS = ("image", "verdict", "score", "source_etag")


def rows_of(scores: Any, threshold: float) -> pa.Table:
    """Rows of a night: names from their positions, NaN for a reject."""
    return pa.table(
        {
            "image": [f"s3://night/{at}.png" for at in range(len(scores))],
            "verdict": [
                "reject" if np.isnan(each) else "defect" if each > threshold else "normal"
                for each in scores
            ],
            "score": pa.array(np.asarray(scores, np.float32), from_pandas=True),
            "source_etag": ["tag"] * len(scores),
        },
        schema=pa.schema([tables.VERDICTS.field(name) for name in COLUMNS]),
    )


def reviews_of(marks: dict[int, Mark], *, etag: str = "tag") -> dict[str, Review]:
    found = {}
    for at, mark in marks.items():
        image = f"s3://night/{at}.png"
        found[image] = Review(
            image=image,
            category="bolt",
            mark=mark,
            remark="",
            who="Ada",
            at=datetime(2026, 11, 23, tzinfo=UTC),
            run="run",
            model_version="1",
            score=1e9,  # it is never used
            source_etag=etag,
        )
    return found


def test_each_image_counts_as_what_it_is_known_to_be() -> None:
    rows = rows_of([1, 2, 3, 4, 11, 12, 13, 14, np.nan], 10)
    marks: dict[int, Mark] = {1: "false_alarm", 2: "defect", 3: "unsure"}
    alarms: dict[int, Mark] = {5: "false_alarm", 6: "defect", 7: "unsure", 8: "false_alarm"}
    found = reviewed_scores(rows, reviews_of(marks | alarms))
    assert found.normal.tolist() == [1, 2, 12]
    assert found.defects.tolist() == [3, 13]
    assert found.unreviewed.tolist() == [4, 11, 14]
    assert (found.num_false_alarms, found.num_outdated, found.num_images) == (1, 0, 8)
    assert found.false_alarm_rates(10.0) == (pytest.approx(1 / 3), pytest.approx(3 / 6))


def test_a_mark_of_another_picture_under_the_same_name_does_not_count() -> None:
    rows = rows_of([1, 11, 12], 10)
    found = reviewed_scores(rows, reviews_of({1: "false_alarm"}, etag="older"))
    assert (found.normal.tolist(), found.num_outdated) == ([1], 1)
    assert reviewed_scores(rows, reviews_of({1: "false_alarm"}, etag="")).num_false_alarms == 1


def test_no_image_is_no_error() -> None:
    found = reviewed_scores(rows_of([], 10), {})
    assert (found.num_images, found.num_false_alarms) == (0, 0)
    assert np.isnan(found.false_alarm_rates(10.0)).all()


def test_marked_images_alone_would_put_the_threshold_far_too_high() -> None:
    """Thirty false alarms of a night, with 21 held-out scores, or with their night.

    The threshold is for five false alarms in a hundred normal images.
    """
    rng = np.random.default_rng(0)
    with_held_out, with_night = [], []
    for _ in range(20):
        held_out, night, later = (rng.gamma(4, size=num) for num in (21, 10_000, 10_000))
        rows = rows_of(night, held_out.max())
        alarms = np.flatnonzero(night > held_out.max())
        worst = alarms[np.argsort(night[alarms])][::-1]
        marked = night[worst[:30]]
        alone = np.quantile(np.concatenate([held_out, marked]), 1 - RATE)
        with_held_out.append(np.mean(later > alone))
        found = reviewed_scores(rows, reviews_of(dict.fromkeys(worst.tolist(), "false_alarm")))
        assert len(found.normal) == len(night)
        with_night.append(np.mean(later > np.quantile(found.normal, 1 - RATE)))
    # Instead of five in a hundred it is fewer than one in a thousand: defects are missed.
    assert np.median(with_held_out) < 0.001
    assert np.mean(with_night) == pytest.approx(RATE, abs=0.002)
    assert np.std(with_night) < 0.005
