"""Files of reviews: what is read, what is refused and how it is named, and what is stored."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.stored_rows import write_rejects
from vqad.inspection import reviews, stored_reviews
from vqad.inspection.reviews import ReviewError, latest_by_image, parse
from vqad.storage import files, output_layout

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
LINE = {
    "image": "file:///archive/bolt/000.png",
    "category": "bolt",
    "mark": "false_alarm",
    "remark": "dust",
    "who": "Ada",
    "at": "2026-11-23T07:00:00.000Z",
    "run": "20261122T231230Z-57f9ffbd",
    "model_version": "20261120T000000Z-0123abcd",
    "score": 40.0,
}


def file_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(LINE | each).encode() + b"\n" for each in lines)


def parsed(*lines: dict[str, Any]) -> list[reviews.Review]:
    return parse(file_of(*lines), "reviews.jsonl", now=NOW)


def quiet(line: str) -> None: ...


def test_a_line_of_the_page_is_read_and_stored_in_one_form() -> None:
    (found,) = parsed({})
    assert (found.mark, found.who, found.score) == ("false_alarm", "Ada", 40.0)
    assert found.at == datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert parse(found.line(), "stored", now=NOW) == [found]


def test_lines_may_have_any_line_end_and_a_reject_no_score() -> None:
    data = b"\xef\xbb\xbf" + file_of({"score": None}, {}).replace(b"\n", b"\r\n") + b"\r\n"
    assert [each.score for each in parse(data, "x", now=NOW)] == [None, 40.0]


@pytest.mark.parametrize(
    "image", ["s3://b/a.tar#m.png", "s3://b/a.tar#m.png;2", "file:///a/b%20c%23.png"]
)
def test_images_are_uris_of_files_or_members(image: str) -> None:
    assert parsed({"image": image})[0].image == image


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mark": "fine"}, "mark must be one of false_alarm, defect, unsure, got 'fine'"),
        ({"mark": ["defect"]}, "mark must be a text"),
        ({"image": "bolt/000.png"}, "image must be the URI of an image, got 'bolt/000.png'"),
        ({"image": "file:///a/../b.png"}, "image must be the URI of an image"),
        ({"image": "s3://user:key@b/a.png"}, "image must be the URI of an image"),
        ({"image": "s3://b/" + "a" * 40_000}, "image has 40007 characters, more than 32768"),
        ({"category": ""}, "category must not be empty"),
        ({"who": ""}, "who must not be empty"),
        ({"who": "A\nda"}, r"who must not have control characters, got 'A\nda'"),
        ({"remark": "x" * 1001}, "remark has 1001 characters, more than 1000"),
        ({"remark": "\ud800"}, "it is not Unicode text"),
        ({"at": "yesterday"}, "at must be a time of ISO 8601, got 'yesterday'"),
        ({"at": "2026-11-23T07:00:00"}, "at must have a time zone"),
        ({"at": "0001-01-01T00:00:00+23:00"}, "at must be a time of ISO 8601"),
        ({"at": "2026-11-25T07:00:00Z"}, "at is in the future, 2026-11-25T07:00:00Z; check"),
        ({"score": "40"}, "score must be a number or null, got '40'"),
        ({"score": True}, "score must be a number or null, got True"),
        ({"score": 1e300}, "score must be a number or null"),
        ({"verdict": "normal"}, "it has an unknown 'verdict'"),
    ],
)
def test_a_bad_line_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReviewError) as raised:
        parsed({}, change)
    assert str(raised.value).startswith("reviews.jsonl, line 2: ")
    assert reason in str(raised.value)
    assert str(raised.value).endswith("save the marks from the page again, or remove this line")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "reviews.jsonl has no reviews; give a file that the page saved"),
        (b"{\n", "line 1: it is not JSON"),
        (b"\xff\n", "line 1: it is not Unicode text in UTF-8"),
        (b"3\n", "line 1: expected an object of JSON, got 3"),
        (b"[" * 60_000 + b"\n", "line 1: it is nested too deeply"),
        (b'{"score": NaN}\n', "line 1: NaN is not a number of JSON"),
        (b'{"mark": "defect", "mark": "unsure"}\n', "line 1: a name is there twice"),
        (b'{"image": "a"}\n', "line 1: it has no category, mark, remark, who, at, run, model_"),
        (b"x" * 70_000 + b"\n", "line 1: 70000 bytes, more than 65536"),
        (b"\x89PNG\r\n\x1a\n", "line 1: it is not Unicode text in UTF-8"),
    ],
)
def test_a_file_that_is_none_of_reviews_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ReviewError) as raised:
        parse(data, "reviews.jsonl")
    assert reason in str(raised.value)


def test_too_many_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "MOST_REVIEWS", 2)
    with pytest.raises(ReviewError, match=r"reviews\.jsonl has more than 2 lines; split the file"):
        parsed({}, {}, {})


def test_a_later_mark_replaces_an_earlier_one_in_any_order() -> None:
    later = {"mark": "defect", "at": "2026-11-23T07:00:00.001Z"}
    for lines in ([{}, later], [later, {}]):
        found = latest_by_image(parsed(*lines))
        assert [each.mark for each in found.values()] == ["defect"]


def test_the_same_reviews_stored_twice_are_one_file(tmp_path: Path) -> None:
    output = str(tmp_path)
    assert stored_reviews.read(output, quiet) == {}
    write_rejects(output, {LINE["image"]: "bolt", "s3://b/1.png": "bolt"})
    first = parsed({}, {"image": "s3://b/1.png", "mark": "defect"})
    assert stored_reviews.store(output, first)
    assert not stored_reviews.store(output, first[::-1])
    assert len(files.list_names(output_layout.reviews(output))) == 1
    assert stored_reviews.store(output, parsed({"mark": "unsure", "at": "2026-11-23T07:30:00Z"}))
    found = stored_reviews.read(output, quiet)
    assert {image: each.mark for image, each in found.items()} == {
        LINE["image"]: "unsure",
        "s3://b/1.png": "defect",
    }


def test_a_damaged_file_of_stored_reviews_is_named(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "0123.jsonl").write_bytes(b"{\n")
    with pytest.raises(ReviewError, match=r"reviews/0123.jsonl, line 1: it is not JSON"):
        stored_reviews.read(str(tmp_path), quiet)


def test_the_false_alarms_of_a_category_are_images_to_learn_from(tmp_path: Path) -> None:
    others = ({"image": f"s3://b/{mark}.png", "mark": mark} for mark in ("defect", "unsure"))
    nut = {"image": "s3://b/nut.png", "category": "nut"}
    stored_reviews.store(str(tmp_path), parsed({"source_etag": "tag"}, nut, *others))
    images = (LINE["image"], "s3://b/defect.png", "s3://b/unsure.png")
    write_rejects(str(tmp_path), dict.fromkeys(images, "bolt") | {"s3://b/nut.png": "nut"})
    (found,) = stored_reviews.false_alarms(str(tmp_path), "bolt", quiet)
    assert (found.image, found.etag) == (LINE["image"], "tag")
    assert stored_reviews.output_of(f"{tmp_path}/reviews") == str(tmp_path)
    with pytest.raises(ReviewError, match="has no reviews; give an output to which vqad review"):
        stored_reviews.output_of(f"{tmp_path}/elsewhere")


def test_a_file_put_there_by_hand_counts_only_for_images_with_a_verdict(tmp_path: Path) -> None:
    output = str(tmp_path)
    later = {"mark": "defect", "at": "2026-11-23T07:30:00Z"}
    by_hand = file_of({}, later | {"image": "s3://b/1.png"}, later | {"category": "nut"})
    files.write_bytes(f"{output_layout.reviews(output)}/hand.jsonl", by_hand)
    said: list[str] = []
    assert stored_reviews.read(output, said.append) == {}  # no verdict at all
    write_rejects(output, {LINE["image"]: "bolt", "s3://b/2.png": "nut"})
    found = stored_reviews.read(output, said.append)
    # A later line of another category does not take the place of the one that counts.
    assert {image: each.mark for image, each in found.items()} == {LINE["image"]: "false_alarm"}
    assert [line.partition(", the first: ")[0].split(" in ")[0] for line in said] == [
        "warning: 3 reviews",
        "warning: 2 reviews",
    ]
    assert said[1].endswith(
        f"/reviews do not count, the first: s3://b/1.png has no verdict in {output}; "
        "vqad review apply would have refused them"
    )
    said.clear()
    assert stored_reviews.false_alarms(output, "nut", said.append) == []
    assert f"{LINE['image']} is of the category bolt in {output}, not nut" in said[0]
