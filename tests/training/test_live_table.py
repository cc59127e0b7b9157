"""What a person sees of a training: a table on a terminal, lines elsewhere, and curves after it."""

import io
import json
from pathlib import Path

import pytest

from vqad.training import curves, events, live_table
from vqad.training.events import Event
from vqad.training.loop import Record


def record(stage: str, step: int) -> Record:
    return Record(
        stage=stage,
        step=step,
        num_steps=300,
        images_per_s=12.34,
        loss=0.5 / step,
        held_out=0.25,
        codes_used=97 if stage == "vqvae" else 0,
        perplexity=51.0 if stage == "vqvae" else 0.0,
    )


EVENTS = [
    Event(category="pill", line="pill: reading 40 images", stage="reading"),
    events.of_record("pill", record("vqvae", 20), 3723.0),
    Event(category="bottle", line="failed: bottle: no [images] in /x", stage="failed"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_every_event_is_a_plain_line() -> None:
    stream = io.StringIO()
    with live_table.shown(["pill", "bottle"], stream) as show:
        for event in EVENTS:
            show(event)
    assert stream.getvalue().splitlines() == [
        "pill: reading 40 images",
        "pill: vqvae step 20 of 300, loss 0.0250, held-out error 0.2500, 97 codes in use "
        "(perplexity 51), 12.3 images/s",
        "failed: bottle: no [images] in /x",
    ]


def test_a_terminal_has_one_table_with_a_row_a_category(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with live_table.shown(["pill", "bottle", "cable"], stream) as show:
        for event in EVENTS:
            show(event)
    said = stream.getvalue()
    last = said[said.rindex("category") :].splitlines()
    rows = {line.split()[0]: line.split() for line in last[1:] if line.strip(" \x1b[?25h")}
    assert rows["pill"][1:] == [
        *("vqvae", "20", "of", "300", "12.3", "0.0250", "97", "0.2500", "1:02:03")
    ]
    assert rows["bottle"][1] == "failed"
    assert rows["cable"][1] == "waiting"
    assert "failed: bottle: no [images] in /x" in said
    assert "vqvae step 20 of 300" not in said


def test_the_time_left_is_gone_when_the_fit_is() -> None:
    shown = live_table.LiveTable(["pill"])
    shown.add(events.of_record("pill", record("prior", 300), 0.0))
    shown.add(Event(category="pill", line="", stage="calibrating"))
    cells = [str(column._cells[0]) for column in shown.table().columns]
    assert cells == ["pill", "calibrating", "300 of 300", "12.3", "0.0017", "", "0.250 nats", ""]


def test_records_are_kept_for_tensorboard_where_asked_for(tmp_path: Path) -> None:
    with live_table.shown(["pill"], io.StringIO(), str(tmp_path / "boards")) as show:
        for event in EVENTS:
            show(event)
    (path,) = (tmp_path / "boards").rglob("events.out.tfevents.*")
    assert path.parent.name == "pill"
    data = path.read_bytes()
    assert all(f"vqvae/{name}".encode() in data for name in ("loss", "held_out", "codes_used"))


def test_curves_are_a_line_an_interval_and_a_picture() -> None:
    records = [record("vqvae", step) for step in (20, 40)] + [record("prior", 25)]
    beside = curves.beside(records, "pill, tiny")
    assert tuple(beside) == ("training.jsonl", "training.png")
    found = [json.loads(line) for line in beside["training.jsonl"].splitlines()]
    assert [Record(**each) for each in found] == records
    assert beside["training.png"].startswith(b"\x89PNG")
    assert curves.picture([], "none").startswith(b"\x89PNG")
