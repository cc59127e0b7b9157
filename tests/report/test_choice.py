"""The choice of the images that get a card."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vqad.inspection.verdict_rows import ROWS
from vqad.report.choice import Candidates
from vqad.report.job import MOST_CARDS, ReportJob
from vqad.report.severity import severity

THRESHOLD = 10.0


def table(scores: list[float | None], start: int = 0) -> pa.Table:
    """Rows of one category; None is a reject."""
    rows = [
        {
            **dict.fromkeys(("category", "model_version", "source_etag", "run", "part"), ""),
            "image": f"file:///a/{start + at:06}.png",
            "verdict": verdict_of(score),
            "score": score,
            "threshold": None if score is None else THRESHOLD,
            "error": "empty" if score is None else "",
            "error_detail": "",
            "regions": [],
            "inspected_at": 0,
        }
        for at, score in enumerate(scores)
    ]
    return pa.Table.from_pylist(rows, schema=ROWS)


def verdict_of(score: float | None) -> str:
    if score is None:
        return "reject"
    return "defect" if score > THRESHOLD else "normal"


def chosen(scores: list[float | None], num_cards: int, part: int = 50) -> list[dict[str, Any]]:
    """The chosen rows of scores that come in parts."""
    candidates = Candidates(num_cards=num_cards)
    for start in range(0, len(scores), part):
        candidates.add(table(scores[start : start + part], start))
    return candidates.chosen(num_cards)


def test_all_rows_are_chosen_where_there_are_cards_enough() -> None:
    found = chosen([5.0, None, 20.0, 12.0, None], 200)
    assert [row["score"] for row in found] == [20.0, 12.0, 5.0, None, None]
    assert [row["severity"] for row in found[:3]] == [2.0, 1.2, 0.5]


def test_a_quarter_are_rejects_and_the_most_severe_come_first() -> None:
    rng = np.random.default_rng(0)
    scores = [*rng.uniform(0, 40, 400).tolist(), *[None] * 100]
    found = chosen(scores, 40)
    assert len(found) == 40
    assert sum(row["score"] is None for row in found) == 10
    severe = sorted((score for score in scores if score is not None), reverse=True)
    judged = [row["score"] for row in found if row["score"] is not None]
    assert judged[:20] == pytest.approx(severe[:20], rel=1e-6)
    assert judged == sorted(judged, reverse=True)


def test_borderline_rows_are_the_nearest_on_both_sides() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 40, 400).tolist()
    border = [row["score"] for row in chosen(scores, 40) if row["borderline"]]
    above, below = (sorted(s for s in scores if (s > 10) == side) for side in (True, False))
    assert sorted(border) == pytest.approx([*below[-5:], *above[:5]], rel=1e-6)


def test_no_more_than_a_twentieth_of_the_images_are_borderline_on_a_side() -> None:
    border = [row for row in chosen([float(each) for each in range(20)], 200) if row["borderline"]]
    assert [row["score"] for row in border] == [11.0, 10.0]


def test_rejects_take_the_cards_that_no_judged_image_needs() -> None:
    found = chosen([*[None] * 30, 3.0], 20)
    assert [row["score"] for row in found] == [3.0, *[None] * 19]


def test_the_choice_does_not_depend_on_how_the_rows_are_cut_into_parts() -> None:
    rng = np.random.default_rng(2)
    scores = [None if each > 38 else float(each) for each in rng.uniform(0, 40, 20_000)]
    pieces, whole = (
        [(row["image"], row["borderline"]) for row in chosen(scores, 30, part)]
        for part in (128, 20_000)
    )
    assert pieces == whole


def test_no_more_rows_are_kept_than_may_be_chosen() -> None:
    candidates = Candidates(num_cards=10)
    rng = np.random.default_rng(3)
    for start in range(0, 10_000, 100):
        candidates.add(table(rng.uniform(0, 40, 100).tolist(), start))
        assert candidates.num_waiting <= 1080 + 100


def test_no_cards_are_chosen_where_none_are_wanted() -> None:
    assert chosen([5.0, 20.0, None], 0) == []


def test_a_threshold_of_zero_makes_any_score_above_it_infinitely_severe() -> None:
    rows = table([0.0, 3.0, None])
    rows = rows.set_column(
        rows.schema.get_field_index("threshold"),
        ROWS.field("threshold"),
        pa.array([0.0, 0.0, None], pa.float32()),
    )
    assert severity(rows)[:2].tolist() == [0.0, np.inf]
    assert np.isnan(severity(rows)[2])


def test_a_page_with_many_categories_has_fewer_cards_of_each() -> None:
    job = ReportJob(output="file:///out")
    assert (job.cards_of(1), job.cards_of(25), job.cards_of(100)) == (200, 200, 50)
    assert job.cards_of(10 * MOST_CARDS) == 1


@pytest.mark.parametrize("name", ["cards", "restored"])
def test_numbers_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
        ReportJob(output="file:///out", **{name: -1})
