"""The history of earlier nights, and the progress that is shown."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vqad.inspection import history
from vqad.inspection.summary import InspectSummary, Progress
from vqad.storage import errors, files

PILLS = {"images": 100, "rejects": 0, "defects": 3}


def record(run: str, **changes: Any) -> dict[str, Any]:
    """What an inspection leaves, as far as the history reads it."""
    return {
        "run": run,
        "command": "inspect",
        "archive_pattern": {"archive": "s3://f/*", "include": None, "category_pattern": None},
        "images": 100,
        "seconds": 10.0,
        "statistics": {"pill": PILLS},
        **changes,
    }


def night_at(output: Path, **changes: Any) -> history.Night:
    asked = {
        "run": "20260131T010000Z-1",
        "output": str(output),
        "pattern": record("")["archive_pattern"],
        "categories": frozenset({"pill"}),
    }
    return history.Night(**asked | changes)


def write(output: Path, found: dict[str, Any], *, runs: bool = True) -> None:
    data = json.dumps(found).encode()
    files.write_bytes(str(output / "run.json"), data)
    if runs:
        files.write_bytes(str(output / "runs" / f"{found['run']}.json"), data)


def write_month(home: Path, *, days: int = 20) -> None:
    for day in range(1, days + 1):
        write(home / f"2026-01-{day:02}", record(f"202601{day:02}T010000Z-0"))


def days(found: list[dict[str, Any]]) -> list[int]:
    return [int(each["run"][6:8]) for each in found]


def test_the_seven_latest_nights_of_dated_folders_are_found(tmp_path: Path) -> None:
    write_month(tmp_path)
    output = tmp_path / "2026-01-31"
    assert days(history.earlier_nights(str(tmp_path), night_at(output))) == [*range(20, 13, -1)]
    assert history.folder_above(str(output)) == str(tmp_path)


def test_only_earlier_inspections_of_such_archives_count(tmp_path: Path) -> None:
    others = {
        "01": {"command": "evaluate"},
        "02": {"command": "vqad inspect --archive a"},  # of an older program
        "03": {"archive_pattern": {"archive": "s3://other/*"}},
        "04": {"statistics": {"screw": PILLS}},
        "05": {"statistics": None},
        "06": {"run": "20260201T000000Z-0"},  # began later
        "07": {},
    }
    for day, changes in others.items():
        write(tmp_path / f"2026-01-{day}", record(f"202601{day}T010000Z-0") | changes)
    for name, data in (("2026-01-08", b"half writ"), ("2026-01-09", b"[]")):
        files.write_bytes(str(tmp_path / name / "run.json"), data)
    (tmp_path / "2026-01-10").mkdir()
    (tmp_path / "a file").touch()
    found = history.earlier_nights(str(tmp_path), night_at(tmp_path / "2026-01-31"))
    assert days(found) == [7]


def test_runs_of_the_same_output_are_earlier_nights_too(tmp_path: Path) -> None:
    output = tmp_path / "inspected"
    for day in range(1, 12):
        changes = {"images": 0, "statistics": {}} if day == 5 else {}
        write(output, record(f"202601{day:02}T010000Z-0", **changes))
    (output / "runs" / "20260112.json").write_bytes(b"half writ")
    assert [int(each["run"][6:8]) for each in history.last_runs(str(output))] == [
        *(11, 10, 9, 8, 7, 6, 4)
    ]
    assert days(history.earlier_nights(str(tmp_path), night_at(output))) == [11, 10, 9, 8, 7, 6, 4]
    write(tmp_path / "other", record("20260110T120000Z-0"))
    assert days(history.earlier_nights(str(tmp_path), night_at(output)))[:3] == [11, 10, 10]


def test_a_command_given_again_does_not_hide_its_night(tmp_path: Path) -> None:
    """It inspects nothing, so that run.json has no statistics; the run before it has."""
    output = tmp_path / "2026-01-05"
    write(output, record("20260105T010000Z-0"))
    write(output, record("20260105T020000Z-0", images=0, statistics={}))
    found = history.earlier_nights(str(tmp_path), night_at(tmp_path / "2026-01-06"))
    assert [each["run"] for each in found] == ["20260105T010000Z-0"]


def test_many_outputs_cost_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest names first, and names with a date like the output's before all others."""
    names = [f"2026-01-{day:02}" for day in range(1, 11)] + [
        f"zebra-{each}" for each in range(3000)
    ]
    read: list[str] = []

    def read_bytes(uri: str, **_: Any) -> bytes:
        read.append(uri)
        name = uri.split("/")[-2]
        if not name.startswith("2026"):
            raise errors.FetchError("missing", "no such file")
        return json.dumps(record(name.replace("-", "") + "T010000Z-0")).encode()

    monkeypatch.setattr(files, "exists", lambda uri: not uri.endswith("runs"))
    monkeypatch.setattr(files, "list_children", lambda uri, **_: dict.fromkeys(names, True))
    monkeypatch.setattr(files, "read_bytes", read_bytes)
    night = dataclasses.replace(night_at(Path("x")), output="s3://f/out/2026-01-31")
    found = history.earlier_nights("s3://f/out", night)
    assert days(found) == [10, 9, 8, 7, 6, 5, 4]
    assert len(read) == 8
    read.clear()
    night = dataclasses.replace(night, output="s3://f/out/other")
    assert history.earlier_nights("s3://f/out", night) == []
    assert len(read) == history.MOST_OUTPUTS


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("s3://f/2026-11-24", "s3://f/*"),
        ("s3://f/2026/11/24/day", "s3://f/*/day"),
        ("file:///line3/20261124", "file:///line3/*"),
        ("s3://f/20261124T013000Z.tar", "s3://f/*.tar"),
        ("s3://f/night_2026-11-24_01-30", "s3://f/night_*"),
        ("s3://f/2026-W47/pills", "s3://f/*/pills"),
        ("s3://f/2026-11-24..2026-11-25", "s3://f/*..*"),
        ("s3://f/2026-13-24", "s3://f/2026-13-24"),
        ("s3://f/part-1920265", "s3://f/part-1920265"),
        ("s3://f/1999-11/24", "s3://f/1999-11/24"),
        ("s3://factory7/good", "s3://factory7/good"),
    ],
)
def test_a_date_is_no_part_of_the_pattern(text: str, pattern: str) -> None:
    assert history.without_dates(text) == pattern


@pytest.mark.parametrize(
    ("output", "above"),
    [
        ("s3://factory/inspected/2026-11-24", "s3://factory/inspected"),
        ("s3://factory/inspected", "s3://factory"),
        ("s3://factory", ""),
        ("file:///data/out", "file:///data"),
        ("file:///out", ""),
    ],
)
def test_the_folder_above_an_output(output: str, above: str) -> None:
    assert history.folder_above(output) == above


def test_the_time_of_an_image_is_that_of_the_last_runs() -> None:
    assert history.seconds_per_image([]) is None
    runs = [record("a", seconds=50.0), record("b", seconds=30.0)]
    assert history.seconds_per_image(runs) == pytest.approx(0.4)


def summary_of(normal: int, defect: int, *, threshold: float = 1.0) -> InspectSummary:
    summary = InspectSummary(run="r", skipped=3)
    verdicts = ["normal"] * normal + ["defect"] * defect
    rows = [
        {
            "image": str(at),
            "category": "pill",
            "verdict": verdict,
            "error": "",
            "score": float(at),
            "threshold": threshold,
            "part": "pill/part-1.parquet",
            **{f"{stage}_seconds": 0.5 for stage in ("fetch", "decode", "inspect", "write")},
            **dict.fromkeys(("brightness", "contrast", "sharpness"), 1.0),
            "code_counts": np.array([3, 1], "<u4").tobytes(),
        }
        for at, verdict in enumerate(verdicts)
    ]
    if rows:
        summary.add(pa.Table.from_pylist(rows), num_most_severe=2)
    return summary


def test_a_summary_adds_up_counts_seconds_and_the_most_severe() -> None:
    summary = summary_of(6, 2)
    assert (summary.images, summary.listed, summary.count("defect")) == (8, 11, 2)
    assert summary.stage_seconds == dict.fromkeys(("fetch", "decode", "inspect", "write"), 4.0)
    assert [row["image"] for row in summary.most_severe] == ["7", "6"]


def test_a_threshold_of_zero_has_a_most_severe_image_too() -> None:
    summary = summary_of(1, 2, threshold=0.0)  # the first one's score is 0, too
    assert [row["image"] for row in summary.most_severe] == ["1", "2"]


def test_progress_says_what_is_done_of_how_much_and_the_time_left() -> None:
    progress = Progress(print, num_todo=20, is_exact=True)
    line = progress.line(summary_of(6, 2), 4.0, ended=False)
    assert line == "8 of 20 images, 2.0 images/s, 2 defects, 0 rejects, 6 s left"
    progress.is_exact = False
    assert progress.line(summary_of(6, 2), 4.0, ended=False).startswith("8 of 20 or more images")
    assert "8 of 8 images" in progress.line(summary_of(6, 2), 4.0, ended=True)
    assert "time left not known yet" in progress.line(summary_of(0, 0), 4.0, ended=False)


def test_a_log_gets_a_line_now_and_then_and_a_terminal_one_that_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    progress = Progress(lines.append, num_todo=20, is_exact=True)
    assert not progress.on_terminal
    for _ in range(100):
        progress.show(summary_of(1, 0))
    assert lines == []
    progress.last_s -= 31
    progress.show(summary_of(1, 0))
    progress.show(summary_of(1, 0))
    assert len(lines) == 1
    progress.show(summary_of(1, 0), ended=True)
    assert len(lines) == 2
    progress.on_terminal = True
    progress.show(summary_of(1, 0), ended=True)
    assert len(lines) == 2
    assert capsys.readouterr().err.startswith("\r\x1b[K1 of 1 images")
