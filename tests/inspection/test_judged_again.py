"""`vqad threshold --apply`: the verdicts of a fresh inspection, from stored scores and maps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.inspection_by_hand import again, inspect, rows
from tests.support.washer_night import (
    job,
    of_the_form_full,
    of_the_form_plain,
    scores_of,
    setting,
    thresholds_between,
    verdicts,
)
from vqad import tables
from vqad.detection import versions
from vqad.detector import Detector
from vqad.inspection import sink
from vqad.inspection.job import InspectJob
from vqad.storage import files, output_layout
from vqad.storage.errors import IncompleteError

__all__ = ["job"]  # a fixture


def fresh(job: InspectJob, number: int) -> list[dict[str, Any]]:
    anew = again(job, output=f"{job.output}-{number}")
    inspect(anew)
    return verdicts(anew)


def test_verdicts_and_regions_are_those_of_a_fresh_inspection(job: InspectJob) -> None:
    """The threshold goes down and up again, and each time on what the last one left."""
    maps = rows(job, "maps")
    values = thresholds_between(job)
    seen = set[str]()
    for number, value in enumerate([values[4], values[6], values[-1], values[5], values[0]]):
        done = setting(job, value=value, apply=job.output, promote=True)
        assert done["in_force"]
        assert (done["applied"]["updated"], done["applied"]["kept_old"]) == (9, 0)
        found = verdicts(job)
        assert found == fresh(job, number)
        assert all(bool(row["regions"]) == (row["verdict"] == "defect") for row in found)
        assert rows(job, "maps") == maps
        seen |= {row["verdict"] for row in found}
    assert seen == {"normal", "defect", "reject"}


@pytest.mark.parametrize("maps", ["defect", "none"])
def test_what_needs_a_map_that_was_not_kept_is_counted_and_left(
    job: InspectJob, tmp_path: Path, maps: str
) -> None:
    job = again(job, maps=maps, output=str(tmp_path / "anew"))
    inspect(job)
    before = {row["image"]: row for row in verdicts(job)}
    num_defects = sum(row["verdict"] == "defect" for row in before.values())
    lowest = max(0.0, min(scores_of(job)) - 1e-3)
    done = setting(job, value=lowest, apply=job.output, promote=True)
    old = [row for row in verdicts(job) if row["model_version"] != done["version"]]
    assert len(old) == done["applied"]["kept_old"]
    assert len(old) == sum(score > lowest for score in scores_of(job)) - (
        num_defects if maps == "defect" else 0
    )
    assert all(row == before[row["image"]] for row in old)
    inspect(again(job, redo="changed"))
    assert {row["model_version"] for row in verdicts(job)} == {done["version"]}
    # A normal image needs no map.
    highest = setting(job, value=max(scores_of(job)), apply=job.output, promote=True)
    assert (highest["applied"]["updated"], highest["applied"]["kept_old"]) == (9, 0)
    assert {row["verdict"] for row in verdicts(job)} == {"normal", "reject"}


def with_other_maps(job: InspectJob, level: float) -> None:
    """Cut the maps of larger scores off at a level, as older programs did for other verdicts."""
    larger = {row["image"] for row in rows(job) if (row["score"] or 0) > level}
    for part in sink.parts(job.output, "maps"):
        uri = output_layout.part(job.output, "maps", part)
        found = pq.read_table(uri, schema=tables.MAPS).to_pylist()
        for row in found:
            if row["image"] in larger:
                row["anomaly_map"] = np.minimum(row["anomaly_map"], np.float32(level))
        sink.write_table(uri, pa.Table.from_pylist(found, schema=tables.MAPS))


@of_the_form_full
def test_a_map_that_has_not_the_score_of_its_row_is_not_used(job: InspectJob) -> None:
    scores = scores_of(job)
    level = (scores[4] + scores[5]) / 2
    with_other_maps(job, level)
    before = {row["image"]: row for row in verdicts(job)}
    done = setting(job, value=(scores[1] + scores[2]) / 2, apply=job.output, promote=True)
    found = verdicts(job)
    old = [row for row in found if row["model_version"] != done["version"]]
    assert sorted(row["score"] for row in old) == scores[5:]
    assert all(row == before[row["image"]] for row in old)
    assert (done["applied"]["kept_old"], done["applied"]["updated"]) == (len(old), 9 - len(old))
    expected = {row["image"]: row for row in fresh(job, 0)}
    assert all(row == expected[row["image"]] for row in found if row not in old)
    inspect(again(job, redo="changed"))
    judged = {row["image"]: row["verdict"] for row in verdicts(job)}
    assert judged == {image: row["verdict"] for image, row in expected.items()}


def test_rows_of_other_detectors_stay_as_they_are(job: InspectJob) -> None:
    detector = Detector.load(job.models, "washer")
    other = detector.with_settings(minimum_area_px=detector.settings.minimum_area_px + 1)
    other.save(job.models)
    before = verdicts(job)
    with pytest.raises(ValueError, match=re.escape("(8 were by others); inspect a night with it")):
        setting(job, per_night=1, nights=(job.output,))
    done = setting(job, value=scores_of(job)[0], apply=job.output)
    assert done["applied"]["by_other_detectors"] == 9
    assert done["applied"]["updated"] == 0
    assert verdicts(job) == before


def test_a_run_that_fails_at_any_write_ends_in_the_same_when_it_runs_again(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"value": thresholds_between(job)[5], "promote": True}
    home = Path(job.output).parent
    calm = _copied(job, home / "undisturbed")
    setting(calm, **wanted, apply=calm.output)
    expected = [row | {"model_version": ""} for row in verdicts(calm)]
    failed = 0
    for number in range(1, 40):
        ours = _copied(job, home / f"tried-{number}")
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", _failing_at(number, files.write_bytes))
            try:
                setting(ours, **wanted, apply=ours.output)
            except (IncompleteError, OSError):
                failed += 1
        done = setting(ours, **wanted, apply=ours.output)
        assert done["in_force"]
        _check_finished(ours, done["version"], expected)
        if failed < number:
            break
    # Two files of weights at least, the record, three parts, the entry of the log, current.json.
    assert failed >= 8


def _check_finished(job: InspectJob, version: str, expected: list[dict[str, Any]]) -> None:
    """One new version, by which all rows are judged."""
    found = verdicts(job)
    assert {row["model_version"] for row in found} == {version}
    assert [row | {"model_version": ""} for row in found] == expected
    assert len(versions.version_names(job.models, "washer")) == 2


def _copied(job: InspectJob, place: Path) -> InspectJob:
    places = {name: place / name for name in ("models", "output")}
    for name, folder in places.items():
        shutil.copytree(Path(job.output).parent / name, folder)
    return again(job, **{name: str(folder) for name, folder in places.items()})


def _failing_at(number: int, write: Any) -> Any:
    calls: Iterator[int] = iter(range(1, 10**6))

    def failing(uri: str, data: bytes) -> None:
        if next(calls) == number:
            raise OSError(f"the disk of {uri} is full")
        write(uri, data)

    return failing


# The process ends itself before it writes the second part of the verdicts.
_KILLED = """
import itertools, os, signal, sys
from jobs.__main__ import main
from vqad.storage import files

write, numbers = files.write_bytes, itertools.count(1)

def write_or_die(uri, data):
    if "/verdicts/" in uri and next(numbers) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(uri, data)

files.write_bytes = write_or_die
sys.exit(main(sys.argv[1:]))
"""


@of_the_form_plain
def test_a_process_that_is_killed_amid_the_parts_ends_in_the_same_when_it_runs_again(
    job: InspectJob,
) -> None:
    value = thresholds_between(job)[5]
    calm = _copied(job, Path(job.output).parent / "undisturbed")
    setting(calm, value=value, apply=calm.output, promote=True)
    places = ("--models", job.models, "--category", "washer", "--apply", job.output)
    line = ["threshold", *places, "--value", str(value), "--promote"]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *line], env=os.environ, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    left = {row["model_version"] for row in verdicts(job)}
    lease = json.loads(Path(job.output, "lease.json").read_text())
    assert not lease["released"]
    done = setting(job, value=value, apply=job.output, promote=True)
    assert done["version"] in versions.version_names(job.models, "washer")
    assert left <= {done["version"], done["from_version"]}
    _check_finished(job, done["version"], [row | {"model_version": ""} for row in verdicts(calm)])
