"""`vqad review apply`: what is stored and counted, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.review import ReviewApply, work
from tests.support import drawn_night, marks
from vqad.inspection import stored_reviews, verdict_rows
from vqad.inspection.reviews import ReviewError
from vqad.storage import files, output_layout
from vqad.storage.errors import ArchiveError


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """A night of twelve bolts with falling scores, seven of them alarms, and two nuts."""
    return drawn_night.write_night(tmp_path / "archive", str(tmp_path / "output"))


def applied(folder: Path, *lines: dict[str, Any]) -> tuple[dict[str, Any], int]:
    file = marks.save(folder / "reviews.jsonl", list(lines))
    places = {"reviews": file, "output": folder / "output", "models": folder / "models"}
    return work(ReviewApply(**{name: str(place) for name, place in places.items()}))


def test_reviews_are_stored_once_and_counted_with_their_night(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    bolts = [row for row in rows if row["category"] == "bolt"]
    num_alarms = sum(row["verdict"] == "defect" for row in bolts)
    lines = [marks.line_of(row, "defect") for row in bolts[:2]]
    lines += [marks.line_of(row, "false_alarm") for row in bolts[2:5]]
    summary, code = applied(tmp_path, *lines)
    assert code == 0
    assert (summary["applied"], summary["refused"], summary["new"]) == (5, 0, True)
    assert summary["categories"] == {
        "bolt": {
            "normal": 12 - num_alarms + 3,
            "false_alarms": 3,
            "defects": 2,
            "unreviewed": num_alarms - 5,
            "outdated": 0,
            "missed_defects": None,
        }
    }
    again, _ = applied(tmp_path, *lines)
    assert again == summary | {"new": False}
    assert len(files.list_names(output_layout.reviews(str(tmp_path / "output")))) == 1
    stored = stored_reviews.read(str(tmp_path / "output"), print)
    assert {each.source_etag for each in stored.values()} == {
        row["source_etag"] for row in bolts[:5]
    }


def test_a_later_mark_takes_the_place_of_an_earlier_one(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    applied(tmp_path, marks.line_of(rows[0], "defect"))
    later = marks.line_of(rows[0], "false_alarm", at="2026-11-23T08:00:00.000Z")
    assert applied(tmp_path, later)[0]["categories"]["bolt"]["false_alarms"] == 1
    summary, _ = applied(tmp_path, marks.line_of(rows[0], "defect"))
    assert summary["categories"]["bolt"]["defects"] == 0


def test_a_mark_of_an_image_without_a_verdict_is_refused_and_the_others_are_stored(
    tmp_path: Path, rows: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    summary, code = applied(
        tmp_path,
        marks.line_of(rows[0], "defect"),
        marks.line_of(rows[0], "defect", image="file:///elsewhere.png"),
        marks.line_of(rows[1], "defect", category="nut"),
    )
    assert (summary["applied"], summary["refused"], code) == (1, 2, 1)
    said = capfd.readouterr().err
    assert "refused: file:///elsewhere.png has no verdict in" in said
    assert "is of the category bolt in" in said


def test_marks_of_another_output_are_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    line = marks.line_of(rows[0], "defect", image="file:///elsewhere.png")
    with pytest.raises(ReviewError, match=re.escape("none of 1 reviews is of an image of")):
        applied(tmp_path, line)
    assert not files.exists(output_layout.reviews(str(tmp_path / "output")))


def test_nothing_of_a_file_with_a_bad_line_is_stored(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    lines = [marks.line_of(rows[0], "defect"), marks.line_of(rows[1], "fine")]
    with pytest.raises(ReviewError, match=r"reviews\.jsonl, line 2: mark must be one of"):
        applied(tmp_path, *lines)
    assert not files.exists(output_layout.reviews(str(tmp_path / "output")))


def test_a_missing_file_and_an_output_without_verdicts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"reviews\.jsonl: .*no such file"):
        work(ReviewApply(reviews=f"{tmp_path}/reviews.jsonl", output=str(tmp_path), models="m"))
    line = marks.line_of(dict.fromkeys(marks.NAMES, "s3://b/1.png") | {"score": 1.0}, "defect")
    with pytest.raises(ArchiveError, match=r"has no verdicts; give the output that the page"):
        applied(tmp_path, line)


def test_a_picture_that_was_replaced_since_has_no_mark(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    applied(tmp_path, marks.line_of(rows[0], "false_alarm"))
    (tmp_path / "archive" / "bolt" / "000.png").write_bytes(b"another picture")
    drawn_night.write_night(tmp_path / "archive", str(tmp_path / "output"))
    summary, _ = applied(tmp_path, marks.line_of(rows[1], "defect", run="older"))
    assert summary["categories"]["bolt"]["outdated"] == 1
    assert summary["categories"]["bolt"]["defects"] == 1


def test_the_later_of_two_rows_of_an_image_counts(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    output = str(tmp_path / "output")
    found = verdict_rows.columns(output, ["image", "score"], [])
    assert {name: len(each) for name, each in found.items()} == {"bolt": 12, "nut": 3}
    assert found["bolt"].column_names == ["image", "score"]
    assert len(rows) == 15
