"""The page's HTML: text is escaped, and the policy allows nothing but its own script and style."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import drawn_night
from tests.support.drawn_night import HOSTILE, Image
from vqad import tables
from vqad.inspection import sink
from vqad.report import page_data, plots
from vqad.report.page_data import REASONS
from vqad.report.totals import CategoryTotals
from vqad.storage import files, output_layout

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def html_of(output: str) -> str:
    return files.read_bytes(output_layout.report_page(output), max_bytes=10**7).decode()


def made(home: Path, found: list[Image] | None = None, **record: Any) -> str:
    """The HTML of a page."""
    output = str(home / "output")
    drawn_night.write_night(home / "archive", output, found, **record)
    drawn_night.make_page(output, restored=0)
    return html_of(output)


def data_in(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_text_from_storage_is_escaped_wherever_it_is_shown(tmp_path: Path) -> None:
    html = made(
        tmp_path,
        [Image(name=f"b&<i>/{HOSTILE}", score=30.0), Image(name="nut/1.png", score=None)],
        warnings=[EVIL, {"text": EVIL}],
        asked={"archive": "file:///" + EVIL, "models": ""},
        run=EVIL,
        versions={EVIL: EVIL},
        not_compared={EVIL: EVIL},
    )
    assert EVIL not in html
    assert "<i>" not in html
    assert "<img" not in html
    assert html.count("<script") == html.count("</script>") == 2
    (hostile, _) = data_in(html)["cards"]
    assert hostile["name"].endswith(HOSTILE)


def test_the_policy_names_the_hashes_of_the_page_s_own_script_and_style(tmp_path: Path) -> None:
    html = made(tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for name, pattern in (
        ("script", r"<script>(.*?)</script>"),
        ("style", r"<style>(.*?)</style>"),
    ):
        (text,) = re.findall(pattern, html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_the_page_names_no_other_place(tmp_path: Path) -> None:
    html = made(tmp_path).replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?:|//[a-z]+\.", html.replace("file://", ""))


def test_every_reason_of_a_reject_has_words() -> None:
    assert set(REASONS) == set(tables.ERRORS)


def test_warnings_are_shown_as_lines_whatever_their_form() -> None:
    found = ["a line", {"text": "a text", "kind": "drift"}, {"share": 0.5, "of": "defects"}, 7]
    assert page_data.warnings_of({"warnings": found}) == [
        "a line",
        "a text",
        "share: 0.5, of: defects",
        "7",
    ]
    assert page_data.warnings_of({"warnings": "none"}) == []
    assert page_data.warnings_of({}) == []


def test_an_output_without_a_run_record_has_a_page_that_says_so(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output)
    Path(output, "run.json").unlink()
    drawn_night.make_page(output, restored=0)
    html = html_of(output)
    assert "there is no run.json: the inspection has not ended, or was stopped" in html
    assert "Inspection of 2026-11-22 23:12 UTC" in html


@pytest.mark.parametrize("record", ["[]", '{"asked": 3, "seconds": "x", "categories": [1]}', "no"])
def test_a_run_record_that_is_odd_does_not_stop_the_page(tmp_path: Path, record: str) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output)
    Path(output, "run.json").write_text(record)
    drawn_night.make_page(output, restored=0)
    assert "Counts of all 15 images" in html_of(output)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(48.4, "48 s"), (600, "10 min"), (7500, "2 h 5 min"), (None, ""), (-1, ""), (True, "")],
)
def test_a_duration_is_shown_in_the_unit_that_fits(seconds: Any, shown: str) -> None:
    assert page_data.duration(seconds) == shown


def test_the_start_of_a_run_is_read_from_its_name() -> None:
    assert page_data.when(drawn_night.RUN) == "2026-11-22 23:12 UTC"
    assert page_data.when("my run") == "my run"


def test_a_histogram_has_a_bar_for_each_bin_with_images_and_says_how_many() -> None:
    totals = CategoryTotals()
    totals.scores[[2, 12, 30]] = [100, 4, 1]
    found = plots.histogram(totals)
    assert [bar.kind for bar in found.bars] == ["normal", "defect", "defect"]
    assert [bar.caption for bar in found.bars] == [
        "0.2 to 0.3 times the threshold: 100 images",
        "1.2 to 1.3 times the threshold: 4 images",
        "more than 3 times the threshold: 1 image",
    ]
    heights = np.array([bar.height for bar in found.bars])
    assert heights == pytest.approx(plots.HEIGHT * np.sqrt([1, 0.04, 0.01]))
    assert found.bars[0].x < found.threshold_x < found.bars[1].x


def test_nights_are_bars_from_the_oldest_to_the_latest() -> None:
    records = [{"categories": {"bolt": {"defect": n, "normal": 10 - n}}} for n in (1, 2)]
    nights = [
        plots.night_of(records[0], "Monday"),
        plots.night_of({}, "Tuesday"),
        plots.night_of(records[1], "Wednesday", is_latest=True),
    ]
    found = plots.nights(nights, "bolt", "defect")
    assert found
    assert [bar.caption for bar in found.bars] == [
        "Monday: 10.0 % defect",
        "Tuesday: no images defect",
        "Wednesday: 20.0 % defect",
    ]
    assert [round(bar.height / plots.HEIGHT, 2) for bar in found.bars] == [0.5, 0, 1]
    assert found.bars[-1].kind == "defect latest"


def test_a_category_without_earlier_nights_has_no_plot_of_nights() -> None:
    nights = [
        plots.night_of({}, "Monday"),
        plots.night_of({"categories": {"bolt": {"defect": 1}}}, "Tuesday", is_latest=True),
    ]
    assert plots.nights(nights, "bolt", "defect") is None


def test_the_page_shows_the_earlier_nights_of_its_output(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    for at in range(3):
        record = {
            "run": f"2026112{at}T220000Z-00000000",
            "images": 10,
            "categories": {"bolt": {"defect": at, "normal": 10 - at, "reject": 0}},
        }
        uri = output_layout.run_record(output, str(record["run"]))
        files.write_bytes(uri, json.dumps(record).encode())
    categories = {"bolt": {"defect": 6, "normal": 6}, "nut": {"defect": 1}}
    drawn_night.write_night(tmp_path / "archive", output, categories=categories)
    drawn_night.make_page(output, restored=0)
    html = html_of(output)
    assert "share of defects of bolt in 4 nights, the latest on the right" in html
    assert html.index("2026-11-20 22:00 UTC: 0.0 %") < html.index("2026-11-22 22:00 UTC: 20.0 %")
    assert "2026-11-22 23:12 UTC: 50.0 % defect" in html


def test_the_page_shows_what_is_unusual_beside_its_usual_ranges(tmp_path: Path) -> None:
    expected = {
        "bolt": {
            "brightness": {"value": 0.5, "earlier nights": [0.6, 0.7], "training images": [0.4, 1]},
            "defect_share": {"value": 0.05, "earlier nights": [0.0, 0.1]},
            "odd": {"value": "?"},
            "odder": 3,
        }
    }
    html = made(tmp_path, expected=expected)
    assert "0.5, unusual" in html
    assert "<td>0.6 to 0.7</td><td>0.4 to 1</td>" in html
    assert "<td>5.0%</td><td>0.0% to 10.0%</td><td>-</td>" in html
    assert "odd" not in re.sub(r"<script.*?</script>|<style.*?</style>", "", html, flags=re.DOTALL)


def test_nights_in_folders_by_date_are_found_beside_the_output(tmp_path: Path) -> None:
    shared = {
        "command": "inspect",
        "images": 10,
        "archive_pattern": {"archive": "s3://b/*", "include": None, "category_pattern": None},
        "statistics": {"bolt": {}},
    }
    for day in ("20", "21"):
        folder = tmp_path / f"2026-11-{day}"
        counts = {"bolt": {"defect": 1, "normal": 9}}
        record = shared | {"run": f"202611{day}T220000Z-00000000", "categories": counts}
        uri = output_layout.latest_run_record(str(folder))
        files.write_bytes(uri, json.dumps(record).encode())
    output = str(tmp_path / "2026-11-22")
    drawn_night.write_night(tmp_path / "archive", output, **shared, categories=counts)
    drawn_night.make_page(output, restored=0)
    assert "share of defects of bolt in 3 nights" in html_of(output)


def test_two_verdicts_of_one_image_are_shown_and_counted_and_escaped(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    assert 'id="shadow"' not in made(tmp_path, [Image(name=f"nut/{HOSTILE}", score=30.0)])
    (part,) = sink.parts(output, "verdicts")
    rows = pq.ParquetFile(output_layout.part(output, "verdicts", part)).read().to_pylist()
    second = [row | {"verdict": "normal", "score": 1.0, "model_version": EVIL} for row in rows]
    table = pa.Table.from_pylist(second, schema=tables.VERDICTS)
    sink.write_table(output_layout.part(output_layout.shadow(output), "verdicts", part), table)
    drawn_night.make_page(output, restored=0)
    html = html_of(output)
    shown = html.partition('id="shadow"')[2].partition("</section>")[0]
    assert "judged 1 of the images as well" in shown
    assert "another verdict for 1 of them (100" in shown
    assert re.search(r"defect <small>30, threshold .*normal <small>1, threshold ", shown)
    assert EVIL not in html
    assert len(data_in(html)["cards"]) == 1
