"""The page of an output with product parts: whole parts have cards, under their verdicts."""

from pathlib import Path
from typing import Any

import pytest

from tests.report.test_page import data_in, html_of
from tests.support import drawn_night
from tests.support.browser import Browser
from tests.support.drawn_night import Image
from vqad.inspection import product_parts
from vqad.report.job import ReportJob
from vqad.report.survey import survey
from vqad.storage import output_layout, uris

PATTERN = r"(p\d+)_\d"
# Of each part of bolts, the first image has the largest score, and the last part a reject.
NIGHT = [
    Image(name=f"bolt/p{part}_{at}.png", score=40.0 - 5 * part - at)
    for part in range(8)
    for at in range(3)
]
NIGHT += [Image(name="bolt/p8_0.png", score=1.0), Image(name="bolt/p8_1.png", score=None)]
NIGHT += [Image(name="bolt/alone.png", score=12.5), Image(name="nut/p0_0.png", score=30.0)]


def write(home: Path, pattern: str | None = PATTERN) -> str:
    """The night with its table of parts, as a run with this pattern has left it."""
    output, archive = str(home / "output"), uris.absolute(str(home / "archive"))
    asked = {"archive": archive, "models": "", "part_pattern": pattern}
    drawn_night.write_night(home / "archive", output, NIGHT, asked=asked)
    product_parts.make(output, PATTERN, archive, lambda: None)
    return output


def part_names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["image"].rpartition("/")[2].partition("_")[0] for row in rows]


def test_a_part_with_a_card_has_cards_of_all_its_images(tmp_path: Path) -> None:
    output = write(tmp_path)
    rows = survey(ReportJob(output=output, cards=8)).rows
    names = part_names([row for row in rows if row["category"] == "bolt"])
    assert len(names) <= 8
    assert names.count("p0") == 3  # the most severe
    assert names.count("p8") == 2  # with the only reject
    whole = {f"p{at}": 3 for at in range(8)} | {"p8": 2, "alone.png": 1}
    assert {name: names.count(name) for name in names}.items() <= whole.items()
    by_name = {row["image"][-8:]: row for row in rows}
    assert by_name["p0_2.png"]["severity"] == pytest.approx(38 / 20)


def test_with_fewer_cards_than_images_of_a_part_the_most_severe_images_have_them(
    tmp_path: Path,
) -> None:
    rows = survey(ReportJob(output=write(tmp_path), cards=1)).rows
    assert sorted(row["image"][-8:] for row in rows) == ["p0_0.png", "p0_0.png"]


def test_the_page_counts_parts_and_says_the_part_of_each_image(tmp_path: Path) -> None:
    output = write(tmp_path)
    drawn_night.make_page(output, restored=0)
    html = html_of(output)
    assert "Counts of all 10 parts." in html
    parts = {card["name"]: card["part"] for card in data_in(html)["cards"]}
    assert len(parts) == len(NIGHT)
    assert parts["bolt/p0_1.png"] == ["p0", "defect", 3, 0]
    assert parts["bolt/p8_0.png"] == ["p8", "reject", 2, 1]
    assert parts["bolt/alone.png"] is None
    assert parts["nut/p0_0.png"] == ["p0", "defect", 1, 0]


@pytest.mark.parametrize("pattern", [None, "(", "p[0-9]"])
def test_without_a_pattern_in_the_record_the_page_has_no_parts(
    tmp_path: Path, pattern: str | None
) -> None:
    output = write(tmp_path, pattern)
    drawn_night.make_page(output, restored=0)
    html = html_of(output)
    assert 'id="parts"' not in html
    assert {card["part"] for card in data_in(html)["cards"]} == {None}


def test_a_damaged_table_of_parts_leaves_its_images_in_no_part(tmp_path: Path) -> None:
    output = write(tmp_path)
    (Path(output) / "parts" / "nut" / "parts.parquet").write_bytes(b"PAR1")
    drawn_night.make_page(output, restored=0)
    parts = {card["name"]: card["part"] for card in data_in(html_of(output))["cards"]}
    assert parts["nut/p0_0.png"] is None
    assert parts["bolt/p0_1.png"] is not None


@pytest.mark.integration
def test_the_images_of_a_part_are_beside_each_other_under_its_verdict(
    tmp_path: Path, opened: Browser
) -> None:
    output = write(tmp_path)
    drawn_night.make_page(output, restored=0)
    opened.open(f"file://{output_layout.report_page(output)}")
    opened.evaluate("localStorage.clear()")
    shown = "[...document.querySelectorAll('#cards > *')].map(e => e.card?.name ?? e.innerText)"
    lines = [" ".join(each.split()) for each in opened.evaluate(shown)]
    assert lines[:8] == [
        *("DEFECT Part p0 bolt, 3 images", *(f"bolt/p0_{at}.png" for at in range(3))),
        *("DEFECT Part p1 bolt, 3 images", *(f"bolt/p1_{at}.png" for at in range(3))),
    ]
    assert "REJECT Part p8 bolt, 2 images, 1 of them not inspected" in lines
    assert lines[lines.index("In no part: 1 image of bolt") + 1] == "bolt/alone.png"
    opened.choose("verdict", "reject")
    lines = [" ".join(each.split()) for each in opened.evaluate(shown)]
    assert lines == [
        "REJECT Part p8 bolt, 2 images, 1 of them not inspected, 1 of them here",
        "bolt/p8_1.png",
    ]
    opened.choose("parts", False)
    assert opened.evaluate(shown) == ["bolt/p8_1.png"]
    assert opened.errors == []
