"""Runs compared with earlier ones, and the progress that is shown."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vqad.inspection import history
from vqad.inspection.summary import InspectSummary, Progress
from vqad.storage import files


def night(normal: int, defect: int, reject: int = 0, *, seconds: float = 10.0) -> dict:
    counts = {"normal": normal, "defect": defect, "reject": reject}
    return {"images": sum(counts.values()), "categories": {"pill": counts}, "seconds": seconds}


def warned(now: dict, *before: dict) -> list[str]:
    counts = {category: Counter(each) for category, each in now["categories"].items()}
    return history.compare(counts, list(before)).warnings


def test_what_cannot_be_compared_is_said() -> None:
    counts = {"pill": Counter(normal=100), "screw": Counter(normal=3)}
    alone = history.compare(counts, [])
    assert (alone.warnings, alone.runs) == ([], [])
    assert alone.note() == "no earlier run in this output: nothing was compared with other nights"
    earlier = night(50, 1) | {"run": "20260101T000000Z-0"}
    earlier["categories"]["screw"] = {"normal": 50}
    found = history.compare(counts | {"nut": Counter(defect=40)}, [earlier])
    assert found.runs == ["20260101T000000Z-0"]
    assert found.not_compared == {
        "nut": "0 images in the last runs, fewer than 30",
        "screw": "3 images, fewer than 30",
    }
    assert found.note() == (
        "not compared with other nights: nut (0 images in the last runs, fewer than 30), "
        "screw (3 images, fewer than 30)"
    )
    assert history.compare({"pill": Counter(normal=100)}, [earlier]).note() == ""
    assert history.compare({}, []).note() == ""  # nothing was inspected


def test_a_night_like_the_others_is_not_warned_of() -> None:
    assert warned(night(95, 5), night(940, 60), night(96, 4)) == []
    assert warned(night(0, 0)) == []
    assert warned(night(0, 100)) == []  # the first night of all


def test_a_share_far_from_the_last_nights_is_said_with_both() -> None:
    assert warned(night(60, 40), night(940, 60)) == [
        "pill: 40 of 100 images are defects, in the last runs 60 of 1000"
    ]
    assert warned(night(90, 0, 10), night(999, 1)) == [
        "pill: 10 of 100 images are rejects, in the last runs 0 of 1000"
    ]
    assert warned(night(100, 0), night(600, 400)) == [
        "pill: 0 of 100 images are defects, in the last runs 400 of 1000"
    ]


def test_few_images_and_small_differences_prove_nothing() -> None:
    assert warned(night(10, 10), night(1000, 0)) == []
    assert warned(night(96_000, 4_000), night(99_000, 1_000)) == []


def test_only_the_last_runs_that_inspected_something_count(tmp_path: Path) -> None:
    assert list(history.last_runs(str(tmp_path))) == []
    for day in range(1, 12):
        record = night(day, 0) if day != 5 else {"images": 0}
        data = json.dumps(record).encode()
        files.write_bytes(str(tmp_path / "runs" / f"202601{day:02}.json"), data)
    files.write_bytes(str(tmp_path / "runs" / "20260112.json"), b"half writ")
    found = [run["images"] for run in history.last_runs(str(tmp_path))]
    assert found == [11, 10, 9, 8, 7, 6, 4]


def test_the_time_of_an_image_is_that_of_the_last_runs() -> None:
    assert history.seconds_per_image([]) is None
    runs = [night(90, 10, seconds=50), night(100, 0, seconds=30)]
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
