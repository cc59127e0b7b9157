"""A version that would lose a confirmed defect: from stored scores, shadow rows, or the images."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.__main__ import main
from tests.support import marks
from tests.support.inspection_by_hand import home, inspect, job, rows
from vqad import tables
from vqad.detector import Detector
from vqad.inspection import promotion, recall_check, sink, stored_reviews
from vqad.inspection.job import InspectJob
from vqad.inspection.promotion import RefusedError
from vqad.inspection.reviews import parse
from vqad.inspection.set_threshold import set_threshold
from vqad.inspection.threshold_job import ThresholdJob
from vqad.model.resample import ResampleOptions
from vqad.storage import output_layout, promotions
from vqad.storage.errors import IncompleteError

__all__ = ("home", "job")
CATEGORY = "fabric"


def quiet(line: str) -> None: ...


BY = {"who": "Ada", "why": "a test", "say": quiet}


@pytest.fixture
def defects(job: InspectJob, tmp_path: Path) -> list[dict[str, Any]]:
    """The rows of a night's defects, of which all are confirmed."""
    inspect(job)
    found = [row for row in rows(job) if row["category"] == CATEGORY]
    found = [row for row in found if row["verdict"] == "defect"]
    assert found
    lines = marks.save(tmp_path / "lines", [marks.line_of(row, "defect") for row in found])
    stored_reviews.store(job.output, parse(lines.read_bytes(), "lines"))
    return found


def version_of(job: InspectJob, **changes: Any) -> str:
    """A version with other settings that is not in force."""
    detector = Detector.load(job.models, CATEGORY).with_settings(**changes)
    return detector.save(job.models, promote=False)


def refused(job: InspectJob, version: str) -> str:
    with pytest.raises(RefusedError) as raised:
        promotion.promote(job.models, CATEGORY, version, output=job.output, **BY)
    return str(raised.value)


def test_a_higher_threshold_that_loses_a_defect_needs_force(
    job: InspectJob, defects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_check, "_inspected", None)  # the stored scores are enough
    largest = max(row["score"] for row in defects)
    version = version_of(job, threshold=largest)
    assert f"it would lose {len(defects)} of {len(defects)} confirmed defects" in refused(
        job, version
    )
    before = promotions.version_in_force(job.models, CATEGORY)
    assert before == defects[0]["model_version"]
    assert promotion.promote(job.models, CATEGORY, version, output=job.output, force=True, **BY)
    assert promotions.version_in_force(job.models, CATEGORY) == version


def test_a_threshold_under_all_defects_loses_none(
    job: InspectJob, defects: list[dict[str, Any]]
) -> None:
    smallest = min(row["score"] for row in defects)
    version = version_of(job, threshold=smallest / 2)
    found = recall_check.recall_check(job.output, job.models, CATEGORY, version, quiet)
    assert (found.confirmed, found.lost, found.missed) == (len(defects), [], [])
    assert not promotion.reasons_against(
        job.models, CATEGORY, version, output="", say=lambda line: None
    )


def test_other_scores_come_from_the_images(job: InspectJob, defects: list[dict[str, Any]]) -> None:
    version = version_of(job, resample=ResampleOptions(eta=1e-9), threshold=300.0)
    gone = Path(defects[0]["image"].removeprefix("file://"))
    gone.unlink()
    found = recall_check.recall_check(job.output, job.models, CATEGORY, version, quiet)
    assert found.lost == [row["image"] for row in defects[1:]]
    assert found.unknown == {defects[0]["image"]: "the image file is gone"}
    assert found.confirmed == len(defects)


def test_marks_without_a_row_that_counts_are_counted_and_refuse_nothing(
    job: InspectJob, defects: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    last = stored_reviews.read(job.output, quiet)[defects[-1]["image"]]
    elsewhere = replace(last, image="file:///elsewhere.png")
    other_file = replace(last, at=last.at + timedelta(hours=1), source_etag="of another file")
    stored_reviews.store(job.output, [elsewhere, other_file])
    version = version_of(job, threshold=min(row["score"] for row in defects) / 2)
    of_fabric = ["--models", job.models, "--category", CATEGORY, "--output", job.output]
    assert main(["models", "promote", *of_fabric, "--version", version]) == 0
    found = recall_check.recall_check(job.output, job.models, CATEGORY, version, quiet)
    assert found.unknown == {last.image: "its file has changed since it was reviewed"}
    said = capfd.readouterr().err
    assert (
        f"warning: 1 of {len(defects)} confirmed defects of file://{job.output} could not be "
        "checked, the first: file:///" in said
    )
    assert (
        f"warning: 1 reviews in file://{job.output}/reviews do not count, the first: "
        f"{elsewhere.image} has no verdict in" in said
    )


def test_other_scores_come_from_a_shadow_run_if_there_was_one(
    job: InspectJob, defects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_check, "_inspected", None)
    version = version_of(job, resample=ResampleOptions(eta=1e-9), threshold=5.0)
    shadow = [
        row | {"model_version": version, "score": 6.0 if at else 5.0}
        for at, row in enumerate(defects)
    ]
    rows_of_shadow = pa.Table.from_pylist(shadow, schema=tables.VERDICTS)
    sink.write_part(output_layout.shadow(job.output), rows_of_shadow, tables.MAPS.empty_table())
    found = recall_check.recall_check(job.output, job.models, CATEGORY, version, quiet)
    assert (found.lost, found.unknown) == ([defects[0]["image"]], {})


def test_a_defect_that_the_version_in_force_misses_too_does_not_speak_against_a_version(
    job: InspectJob, defects: list[dict[str, Any]]
) -> None:
    promotions_of = {"output": job.output, "force": True, **BY}
    promotion.promote(job.models, CATEGORY, version_of(job, threshold=300.0), **promotions_of)
    found = recall_check.recall_check(
        job.output, job.models, CATEGORY, version_of(job, threshold=301.0), quiet
    )
    assert (found.lost, len(found.missed)) == ([], len(defects))


def test_a_threshold_that_loses_a_defect_is_saved_and_not_put_in_force(
    job: InspectJob, defects: list[dict[str, Any]]
) -> None:
    before = rows(job)
    wanted = ThresholdJob(
        models=job.models,
        category=CATEGORY,
        value=max(row["score"] for row in defects),
        apply=job.output,
        promote=True,
    )
    with pytest.raises(IncompleteError, match="is saved and not put in force: it would lose"):
        set_threshold(wanted, lambda _: None)
    assert promotions.version_in_force(job.models, CATEGORY) == defects[0]["model_version"]
    assert rows(job) == before
