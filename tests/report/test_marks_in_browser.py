"""Marks and the large view, in a real browser."""

import json
import time
from typing import Any

import pytest

from tests.support.browser import Browser, pressed, text
from tests.support.drawn_night import RUN

pytestmark = pytest.mark.integration

FOCUSED = "document.activeElement.card?.name"


def test_the_keyboard_leaves_a_field_its_letters(page: Browser) -> None:
    page.press("j")
    page.press("r")
    for letter in "odd":
        page.press(letter)
    page.press("Enter")
    assert page.evaluate(f"{FOCUSED}") == "bolt/000.png"
    kept = page.evaluate("Object.values(JSON.parse(localStorage.getItem(KEPT_AS)))")
    assert [(each["remark"], each["mark"]) for each in kept] == [("odd", "")]
    assert page.evaluate("document.getElementById('save').disabled")
    assert text(page, ".card .choice").endswith("choose a mark, or the remark is not saved")
    page.press("f")
    assert page.evaluate("document.querySelector('.card .unfinished').hidden")


def test_enter_shows_the_pictures_large_and_the_map_can_be_switched_there(page: Browser) -> None:
    page.press("j")
    page.press("Enter")
    assert page.evaluate("document.getElementById('large').open")
    assert "bolt/000.png" in text(page, "#large .path")
    page.press("m")
    style = "getComputedStyle(document.querySelector('#large .heat')).display"
    assert page.evaluate(style) != "none"
    page.evaluate("document.getElementById('close').click()")
    assert not page.evaluate("document.getElementById('large').open")
    assert page.evaluate(FOCUSED) == "bolt/000.png"


def test_marks_and_the_next_image_are_in_the_large_view_too(page: Browser) -> None:
    page.press("j")
    page.press("Enter")
    page.press("f")
    page.press("j")
    page.press("u")
    page.press("r")
    page.press("k")  # a letter of the remark
    page.press("Enter")
    assert "bolt/001.png" in text(page, "#large .path")
    assert "Esc closes" in text(page, "#large form")
    page.press("k")
    assert "bolt/000.png" in text(page, "#large .path")
    page.evaluate("document.getElementById('large-next').click()")
    assert pressed(page, "#large [data-mark=unsure]") == "true"
    page.press("Escape")
    assert page.evaluate(f"new Promise(done => setTimeout(() => done({FOCUSED}), 200))") == (
        "bolt/001.png"
    )
    kept = page.evaluate("Object.values(marks).map(each => [each.mark, each.remark])")
    assert kept == [["false_alarm", ""], ["unsure", "k"]]
    assert pressed(page, ".card [data-mark=false_alarm]") == "true"


def test_the_large_view_goes_over_the_end_of_a_page(page: Browser) -> None:
    page.evaluate("showLarge(found[99])")
    page.press("j")
    assert text(page, "#page") == "page 2 of 2"
    assert page.evaluate("document.getElementById('large').card === found[100]")
    page.press("k")
    assert text(page, "#page") == "page 1 of 2"
    page.evaluate("document.getElementById('close').click()")


def test_the_marks_of_a_normal_image_have_its_own_words(page: Browser) -> None:
    words = "[...document.querySelector('.card .choice').querySelectorAll('button')]"
    assert page.evaluate(f"{words}.map(e => e.innerText)") == ["False alarm", "Defect", "Unsure"]
    page.choose("verdict", "normal")
    assert page.evaluate(f"{words}.map(e => [e.innerText, e.dataset.mark])") == [
        ["Is normal", "false_alarm"],
        ["Missed defect", "defect"],
        ["Unsure", "unsure"],
    ]


def test_nothing_is_saved_without_a_name(page: Browser) -> None:
    before = list(page.downloads.iterdir())
    page.press("j")
    page.press("f")
    page.evaluate("document.getElementById('save').click()")
    assert text(page, "#said") == "Enter your name first, then save."
    assert page.evaluate("document.activeElement.id") == "who"
    assert list(page.downloads.iterdir()) == before


def test_marks_come_out_as_json_lines_that_name_the_image(page: Browser, night: Any) -> None:
    _, rows = night
    page.evaluate(
        "document.getElementById('who').value = 'Ada';"
        "document.getElementById('who').dispatchEvent(new Event('change'))"
    )
    page.press("j")
    page.press("f")
    page.press("j")
    page.press("u")
    assert text(page, "#save") == "Save marks (2)"
    time.sleep(0.5)  # Chromium hands what a page keeps to its next process a moment later
    page.open(page.evaluate("location.href"))  # marks and name are kept in the browser
    page.press("j")
    assert pressed(page, ".card [data-mark=false_alarm]") == "true"
    page.evaluate("document.getElementById('save').click()")
    assert text(page, "#said") == f"Saved 2 marks as reviews-{RUN}.jsonl."
    lines = [json.loads(line) for line in page.downloaded(f"reviews-{RUN}.jsonl").splitlines()]
    by_image = {row["image"]: row for row in rows}
    assert [line["mark"] for line in lines] == ["false_alarm", "unsure"]
    for line in lines:
        row = by_image[line["image"]]
        assert set(line) == {
            *("image", "category", "mark", "remark", "who", "at", "run", "model_version", "score")
        }
        assert line["who"] == "Ada"
        assert line["at"].startswith("20")
        assert line["score"] == pytest.approx(row["score"], rel=1e-4)
        assert [line[name] for name in ("category", "run", "model_version")] == [
            row[name] for name in ("category", "run", "model_version")
        ]


def test_a_mark_is_taken_back_by_the_same_key(page: Browser) -> None:
    page.press("j")
    page.press("d")
    assert text(page, "#save") == "Save marks (1)"
    page.press("d")
    assert text(page, "#save") == "Save marks"
    page.press("d")
    page.press("x")
    assert text(page, "#save") == "Save marks"
