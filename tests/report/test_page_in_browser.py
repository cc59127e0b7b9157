"""The page in a real browser: filters, keyboard, overlays, marks; nothing from elsewhere."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import drawn_night
from tests.support.browser import Browser, pressed, text
from tests.support.drawn_night import HOSTILE, NUM_BOLTS, Image
from vqad.storage import output_layout
from vqad.storage.uris import path_of

pytestmark = pytest.mark.integration

FOCUSED = "document.activeElement.card?.name"


def names(page: Browser) -> list[str]:
    """The names on the cards that are shown."""
    return page.evaluate("[...document.querySelectorAll('.card .name bdi')].map(e => e.innerText)")


def table(page: Browser) -> dict[str, list[str]]:
    rows = page.evaluate(
        "[...document.querySelector('table.counts').rows].slice(1)"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )
    return {name: values for name, *values in rows}


def test_the_counts_are_those_of_the_table(page: Browser, night: Any) -> None:
    _, rows = night
    shown = table(page)
    assert set(shown) == {"bolt", "nut", "All"}
    for category in ("bolt", "nut"):
        found = Counter(row["verdict"] for row in rows if row["category"] == category)
        images, defects, _, normal, rejects, cards = shown[category]
        assert [int(each) for each in (images, defects, normal, rejects)] == [
            *(found.total(), found["defect"], found["normal"], found["reject"])
        ]
        assert int(cards) == found.total()
    assert f"{NUM_BOLTS + 3} of {NUM_BOLTS + 3} images have a card" in text(page, "#shown")


def test_the_cards_come_in_pages_of_a_hundred_with_the_most_severe_first(page: Browser) -> None:
    first = names(page)
    assert len(first) == 100
    assert first[0] == "bolt/000.png"
    assert pressed(page, "#previous") is None
    page.evaluate("document.getElementById('next').click()")
    rest = names(page)
    assert len(rest) == NUM_BOLTS + 3 - 100
    assert not set(first) & set(rest)
    assert rest[-1] == "nut/broken.png"
    assert text(page, "#page") == "page 2 of 2"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("category", "nut", {f"nut/{HOSTILE}", "nut/ä b%20c.png", "nut/broken.png"}),
        ("verdict", "reject", {"nut/broken.png"}),
        ("error", "unreadable", {"nut/broken.png"}),
        ("text", "BOLT/01", {f"bolt/01{at}.png" for at in range(10)}),
        ("score_from", "1.99", {"bolt/000.png"}),
        ("score_to", "0.105", {"bolt/129.png"}),
        ("region_from", "151", set()),
    ],
)
def test_a_filter_leaves_the_right_cards(
    page: Browser, field: str, value: str, expected: set[str]
) -> None:
    page.choose(field, value)
    assert set(names(page)) == expected
    said = text(page, "#shown")
    assert (said == "No card matches these filters.") == (not expected)
    page.choose(field, "")
    assert len(names(page)) == 100


def test_the_filter_of_the_latest_run_leaves_out_the_older_ones(page: Browser) -> None:
    page.choose("category", "nut")
    page.choose("latest", True)
    assert set(names(page)) == {f"nut/{HOSTILE}", "nut/broken.png"}


def test_borderline_images_are_those_on_both_sides_of_the_threshold(page: Browser) -> None:
    page.choose("verdict", "borderline")
    page.choose("category", "bolt")
    scores = [each.score for each in drawn_night.images(NUM_BOLTS) if each.score and each.score > 0]
    shown = page.evaluate("found.map(card => card.severity)")
    assert 4 <= len(shown) <= 0.11 * NUM_BOLTS
    assert min(shown) < 1 < max(shown)
    nearest = sorted(abs(score / 20 - 1) for score in scores)[: len(shown) - 2]
    assert max(abs(each - 1) for each in shown) <= nearest[-1] + 0.05


def test_sorting_by_path_and_by_distance_from_the_threshold(page: Browser) -> None:
    page.choose("sort", "path")
    assert names(page) == sorted(names(page))
    page.choose("sort", "threshold")
    distances = page.evaluate("found.map(card => Math.abs((card.severity ?? 99) - 1))")
    assert distances == sorted(distances)


def test_the_keyboard_goes_through_the_cards_and_over_the_end_of_a_page(page: Browser) -> None:
    page.press("j")
    assert page.evaluate(FOCUSED) == "bolt/000.png"
    page.press("ArrowRight")
    assert page.evaluate(FOCUSED) == "bolt/001.png"
    page.press("k")
    assert page.evaluate(FOCUSED) == "bolt/000.png"
    page.evaluate("[...document.querySelectorAll('.card')][99].focus()")
    page.press("j")
    assert text(page, "#page") == "page 2 of 2"
    page.press("ArrowLeft")
    assert text(page, "#page") == "page 1 of 2"


def test_overlay_and_outline_are_switched_by_key_and_button(page: Browser) -> None:
    def shown(kind: str) -> bool:
        selector = f".card .{kind}"
        style = f"getComputedStyle(document.querySelector({selector!r})).display"
        return page.evaluate(style) != "none"

    assert (shown("heat"), shown("line"), pressed(page, "#map")) == (False, True, "false")
    page.press("m")
    assert (shown("heat"), shown("line"), pressed(page, "#map")) == (True, True, "true")
    page.press("o")
    assert (shown("heat"), shown("line")) == (True, False)
    page.evaluate("document.getElementById('map').click()")
    assert not shown("heat")


def test_a_name_that_is_html_is_shown_as_text(page: Browser) -> None:
    page.choose("category", "nut")
    assert f"nut/{HOSTILE}" in names(page)
    assert not page.evaluate("document.querySelectorAll('img[src=x]').length")
    assert not page.errors


def test_nothing_is_asked_from_the_network_and_all_pictures_are_there(
    page: Browser, night: Any
) -> None:
    page.choose("category", "nut")
    page.press("m")
    seen = page.evaluate(
        "Promise.all([...document.querySelectorAll('.card img')].map(async e => {"
        "e.loading = 'eager'; await e.decode(); return e.naturalWidth}))"
    )
    assert len(seen) == 4  # crop and whole image of two
    assert min(seen) > 0
    folder = f"file://{path_of(night[0])}/report/"
    assert page.requests
    assert all(each.startswith((folder, "data:")) for each in page.requests), page.requests
    assert not page.errors


def test_the_policy_of_the_page_stops_scripts_and_requests_that_are_not_its_own(
    page: Browser,
) -> None:
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.ran = true'}))"
    )
    assert page.evaluate("window.ran") is None
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == (
        "refused"
    )
    assert any("Content Security Policy" in each for each in page.errors)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_on_a_phone(page: Browser, theme: str) -> None:
    page.show(width_px=390, height_px=800, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("scrollTo(0, 1e6)")
    place = "document.getElementById('save').getBoundingClientRect()"
    assert (
        page.evaluate(f"[{place}.top > 0, {place}.bottom < 800, {place}.right < 390]") == [True] * 3
    )
    buttons = "[...document.querySelectorAll('button:not(.picture)')].filter(e => e.offsetHeight)"
    assert page.evaluate(f"Math.min(...{buttons}.map(e => e.offsetHeight))") >= 36
    page.show()


def test_a_card_says_the_factor_first_and_what_was_not_made(page: Browser) -> None:
    page.choose("verdict", "normal")
    page.choose("text", "bolt/129")
    shown = text(page, ".card").lower()
    assert "0.1 \u00d7 the threshold (score 2" in shown
    assert "what the detector expects (approximate)" in shown
    assert "not made for this image" in shown
    assert page.evaluate("document.querySelector('.card .line').getAttribute('d')") == ""


def test_a_page_of_one_card_says_where_there_is_no_picture(opened: Browser, tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output, [Image(name="bolt/1.png", score=30.0)])
    (tmp_path / "archive" / "bolt" / "1.png").unlink()
    drawn_night.make_page(output)
    opened.open(f"file://{output_layout.report_page(output)}")
    assert "No picture: the image file is gone" in text(opened, ".card")
    assert text(opened, "#shown").startswith("Cards 1 to 1 of 1.")
