"""`vqad report`, and the page that `vqad inspect` leaves, with real detectors on Ray."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support import finished_inspection
from tests.support.browser import browser
from tests.support.commands import Ended
from tests.support.finished_inspection import ON_RAY, Finished
from vqad.storage import files, output_layout, s3, uris

pytestmark = ON_RAY


def data_of(output: str) -> dict[str, Any]:
    """What the page's script reads."""
    html = files.read_bytes(output_layout.report_page(output), max_bytes=10**8).decode()
    _, _, rest = html.partition('<script type="application/json" id="data">')
    return json.loads(rest.partition("</script>")[0])


def test_a_night_leaves_the_page_of_its_verdicts_with_the_parts_of_the_product(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"archive": finished.archive, "models": finished.models, "output": tmp_path}
    folder = "([^/]+)/[^/]+$"
    summary = finished_inspection.inspect(**places, report=True, part_pattern=folder)
    uri = output_layout.report_page(uris.absolute(str(tmp_path)))
    assert f"page: {uri}\n" in capfd.readouterr().err
    rows = finished_inspection.verdicts(tmp_path)
    cards = data_of(str(tmp_path))["cards"]
    assert {card["image"] for card in cards} == {row["image"] for row in rows}
    judged = [card for card in cards if card["score"] is not None]
    assert all({"whole", "crop", "map", "restored"} == set(card["pictures"]) for card in judged)
    assert {card["unit"] for card in judged} == {"grey levels"}
    pictures = {name for card in cards for name in card["pictures"].values()}
    assert pictures == set(files.list_names(output_layout.report_pictures(str(tmp_path))))
    of_parts = Counter((card["category"], card["part"][0]) for card in cards if card["part"])
    for card in cards:
        if card["part"]:
            assert card["part"][2] == of_parts[card["category"], card["part"][0]]
    parts = summary["parts"]
    assert parts.pop("unmatched_images") == sum(card["part"] is None for card in cards) == 1
    assert sum(parts.values()) == len(of_parts) > 2


def test_a_page_that_cannot_be_made_is_a_warning_and_the_night_is_done(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_text("a file where the folder should be")
    places = {"archive": finished.archive, "models": finished.models, "output": tmp_path}
    summary = finished_inspection.inspect(**places, report=True)
    assert summary["listed"] == finished.summary["listed"]
    said = capfd.readouterr().err
    assert "warning: the page could not be made: " in said
    assert "vqad report makes it later" in said


def test_a_page_made_again_removes_the_pictures_that_it_does_not_need(
    finished: Finished, vqad: Callable[..., Ended]
) -> None:
    output = str(finished.output)
    first = vqad("report", "--output", output, "--restored", 0, "--sheets", 1)
    assert first.code == 0, first.err
    folder = output_layout.report_pictures(output)
    assert first.summary["cards"] == len(finished_inspection.verdicts(output))
    assert "contact sheet: " in first.err
    before = set(files.list_names(folder))
    again = vqad("report", "--output", output, "--cards", 2, "--restored", 1)
    assert again.code == 0, again.err
    assert again.summary["restored"] == 1
    left = set(files.list_names(folder))
    pictures = {name for card in data_of(output)["cards"] for name in card["pictures"].values()}
    assert left == pictures
    assert len(left) < len(before)


def test_a_page_without_detectors_says_so_on_its_cards(
    finished: Finished, tmp_path: Path, vqad: Callable[..., Ended]
) -> None:
    ended = vqad("report", "--output", finished.output, "--models", tmp_path, "--cards", 4)
    assert ended.code == 0, ended.err
    assert ended.summary["restored"] == 0
    cards = [card for card in data_of(str(finished.output))["cards"] if card["score"] is not None]
    for card in cards:
        assert card["missing"]["restored"].startswith("the detector cannot be loaded: ")


def test_an_output_that_does_not_exist_is_refused(vqad: Callable[..., Ended]) -> None:
    ended = vqad("report", "--output", "/nowhere/at/all")
    assert ended.code == 2
    assert "has no verdicts; inspect an archive into it first" in ended.err


def test_a_page_on_object_storage_works_through_a_plain_file_server(
    finished: Finished, bucket: str, tmp_path: Path
) -> None:
    archive, output = f"{bucket}/archive", f"{bucket}/out put"
    for path in (finished.archive / "fabric" / "test").rglob("*.png"):
        if path.is_file():
            name = str(path.relative_to(finished.archive))
            files.write_bytes(uris.join(archive, name), path.read_bytes())
    finished_inspection.inspect(archive=archive, models=finished.models, output=output, report=True)
    head = s3.head(*s3.bucket_and_key(output_layout.report_page(uris.absolute(output))))
    assert head
    assert head["ContentType"] == "text/html; charset=utf-8"
    fetch(output_layout.report_page(uris.absolute(output)).rpartition("/")[0], tmp_path / "report")
    with browser() as page:
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Silent, directory=str(tmp_path / "report"))
        )
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        page.open(f"{address}index.html")
        assert page.evaluate("data.cards.length") == len(finished_inspection.verdicts(output))
        seen = page.evaluate(
            "Promise.all([...document.querySelectorAll('.card img')].map(async e => {"
            "e.loading = 'eager'; await e.decode(); return e.naturalWidth}))"
        )
        server.shutdown()
        server.server_close()
    assert len(seen) >= 16
    assert min(seen) > 0
    assert all(each.startswith((address, "data:")) for each in page.requests), page.requests
    assert not page.errors


class Silent(SimpleHTTPRequestHandler):
    """A file server without a log."""

    def log_message(self, *_: object) -> None:
        return


def fetch(uri: str, folder: Path) -> None:
    """Copy all files below a URI into a folder."""
    for name, is_folder in files.list_children(uri).items():
        if is_folder:
            fetch(uris.join(uri, name), folder / name)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files.read_bytes(uris.join(uri, name), max_bytes=10**8))
