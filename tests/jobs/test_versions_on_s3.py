"""Thresholds, reviews and versions, all on object storage and without Ray."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support import marks
from tests.support.commands import Ended
from tests.support.random_detectors import detector_of
from tests.support.stored_rows import stored_row
from vqad import tables
from vqad.detector import Detector
from vqad.inspection import sink, stored_reviews, verdict_rows
from vqad.storage import files

pytestmark = pytest.mark.integration

Vqad = Callable[..., Ended]
SCORES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
MAP_PX, SOURCE_PX = 16, 64


def write_night(bucket: str, detector: Detector) -> None:
    """An image for each score, in two parts; its map is a square with the score."""
    found = [_row(f"{bucket}/archive/washer/{value:g}.png", value, detector) for value in SCORES]
    for some in (found[:5], found[5:]):
        rows, maps = zip(*some, strict=True)
        sink.write_part(
            f"{bucket}/night",
            pa.Table.from_pylist(list(rows), schema=tables.VERDICTS),
            pa.Table.from_pylist(list(maps), schema=tables.MAPS),
        )


def _row(image: str, value: float, detector: Detector) -> tuple[dict[str, Any], dict[str, Any]]:
    anomaly_map = np.zeros((MAP_PX, MAP_PX), np.float32)
    anomaly_map[4:8, 8:12] = value
    return stored_row(image, value, anomaly_map, detector, source_px=SOURCE_PX, run="monday")


def stored(bucket: str) -> dict[float, dict[str, Any]]:
    """The rows of the night, by score."""
    found = pa.concat_tables(verdict_rows.read(f"{bucket}/night", []))
    return {row["score"]: row for row in found.to_pylist()}


@pytest.fixture
def night(bucket: str) -> str:
    """The bucket, with a night of six alarms and the detector that was in force."""
    detector_of(threshold=2.5).save(f"{bucket}/models")
    write_night(bucket, Detector.load(f"{bucket}/models", "washer"))
    return bucket


def review(bucket: str, vqad: Vqad) -> Ended:
    """Apply a file of marks that lies beside the stored reviews: two defects, a false alarm."""
    rows = stored(bucket)
    lines = [marks.line_of(rows[value], "defect") for value in (7.0, 8.0)]
    lines.append(marks.line_of(rows[3.0], "false_alarm"))
    place = f"{bucket}/night/reviews/ada.jsonl"
    files.write_bytes(place, "".join(json.dumps(each) + "\n" for each in lines).encode())
    where = ("--output", f"{bucket}/night", "--models", f"{bucket}/models")
    return vqad("review", "apply", "--reviews", place, *where)


def test_marks_a_threshold_and_versions_are_kept_on_object_storage(night: str, vqad: Vqad) -> None:
    models, output = f"{night}/models", f"{night}/night"
    of_washer = ("--models", models, "--category", "washer")
    reviewed = review(night, vqad)
    assert reviewed.code == 0, reviewed.err
    counts = reviewed.summary["categories"]["washer"]
    assert (counts["normal"], counts["defects"], counts["unreviewed"]) == (3, 2, 3)
    assert sorted(each.mark for each in stored_reviews.read(output, print).values()) == [
        "defect",
        "defect",
        "false_alarm",
    ]

    # Six images are no confirmed defects; two of them are above the third largest score.
    line = ("threshold", *of_washer, "--per-night", 2, "--from", output, "--apply", output)
    done = vqad(*line, "--promote")
    assert done.code == 0, done.err
    older, newer = done.summary["from_version"], done.summary["version"]
    assert (done.summary["threshold"], done.summary["in_force"]) == (4.0, True)
    applied = done.summary["applied"]
    assert (applied["updated"], applied["to_normal"], applied["kept_old"]) == (8, 2, 0)
    rows = stored(night)
    assert {row["model_version"] for row in rows.values()} == {newer}
    assert [value for value in SCORES if rows[value]["verdict"] == "defect"] == [5, 6, 7, 8]
    assert [value for value in SCORES if rows[value]["regions"]] == [5, 6, 7, 8]
    same = vqad(*line, "--promote").summary
    assert (same["version"], same["applied"]["updated"]) == (newer, 0)
    check_versions(night, vqad, older, newer)


def check_versions(night: str, vqad: Vqad, older: str, newer: str) -> None:
    """A version that loses a defect is refused, forced, and taken back."""
    of_washer = ("--models", f"{night}/models", "--category", "washer")
    losing = vqad("threshold", *of_washer, "--value", 7.5).summary["version"]
    listed = vqad("models", "list", "--models", f"{night}/models").summary["categories"]
    assert listed == {"washer": {"in_force": newer, "versions": [older, newer, losing]}}
    promote = ("models", "promote", *of_washer, "--version", losing, "--output", f"{night}/night")
    refused = vqad(*promote)
    assert refused.code == 2
    assert "it would lose 1 of 2 confirmed defects" in refused.err
    assert f"{night}/archive/washer/7.png" in refused.err
    assert vqad(*promote, "--force").summary["to"] == losing
    back = vqad("models", "rollback", *of_washer).summary
    assert (back["from"], back["to"]) == (losing, newer)
    shown = vqad("models", "show", *of_washer).summary
    assert (shown["version"], shown["threshold"]) == (newer, 4.0)
    steps = [(each["action"], each["to"]) for each in shown["log"]]
    assert steps[1:] == [("promote", newer), ("promote", losing), ("rollback", newer)]
