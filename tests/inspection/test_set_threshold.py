"""A new threshold: where it comes from, the version that has it, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.inspection.test_reviewed_scores import reviews_of
from tests.support.inspection_by_hand import rows
from tests.support.washer_night import job, of_the_form_plain, scores_of, setting
from vqad.detection import saved_detector, versions
from vqad.detection.calibrate import SMALLEST_THRESHOLD
from vqad.detection.false_alarms import RateError
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.inspection import product_parts, stored_reviews
from vqad.inspection.job import InspectJob
from vqad.inspection.set_threshold import set_threshold
from vqad.inspection.threshold_job import ThresholdJob
from vqad.storage import files, output_layout, uris

__all__ = ["job"]  # a fixture


def at_least(job: InspectJob, score: float) -> float:
    """The score, or the smallest threshold of the detector's form."""
    form = Detector.load(job.models, "washer").settings.form
    return score if form == "full" else max(SMALLEST_THRESHOLD, score)


def test_the_new_version_has_the_same_weights_and_says_where_it_comes_from(job: InspectJob) -> None:
    old = Detector.load(job.models, "washer")
    done = setting(job, per_night=2, nights=(job.output,))
    assert Detector.load(job.models, "washer").version == old.version  # not in force
    assert not done["in_force"]
    new = Detector.load(job.models, "washer", version=done["version"])
    record = new.settings.found.threshold
    assert record is not None
    assert (record.rule, record.asked, record.source) == ("per night", 2, [job.output])
    assert (record.from_version, record.num_scores) == (old.version, 8)
    assert new.settings.found.night_scores == scores_of(job)
    same = {"threshold": 0.0, "found": FitRecord()}
    assert replace(new.settings, **same) == replace(old.settings, **same)
    weights = [
        json.loads((Path(job.models) / "washer" / each / "detector.json").read_text())["files"]
        for each in (old.version, done["version"])
    ]
    assert weights[0] == weights[1]
    assert new.settings.threshold == at_least(job, scores_of(job)[-3])
    setting(job, per_night=2, nights=(job.output,), promote=True)
    assert Detector.load(job.models, "washer").version == done["version"]


def test_reviewed_defects_of_a_night_do_not_count(job: InspectJob) -> None:
    alarms = sorted(
        (row for row in rows(job) if row["score"] is not None), key=lambda r: -r["score"]
    )
    unreviewed = setting(job, per_night=3, nights=(job.output,))
    marked = next(iter(reviews_of({0: "defect"}).values()))
    review = replace(marked, image=alarms[0]["image"], category="washer", source_etag="")
    stored_reviews.store(job.output, [review])
    reviewed = setting(job, per_night=3, nights=(job.output,))
    assert unreviewed["threshold"] == at_least(job, alarms[3]["score"])
    assert reviewed["threshold"] == at_least(job, alarms[4]["score"])
    assert (unreviewed["normal_scores"], reviewed["normal_scores"]) == (8, 7)


def test_a_rate_from_an_unreviewed_night_is_a_bound_and_says_so(job: InspectJob) -> None:
    said: list[str] = []
    wanted = ThresholdJob(
        models=job.models, category="washer", false_alarms=0.25, nights=(job.output,)
    )
    done = set_threshold(wanted, said.append)
    # A quarter of eight and a new one is two: the second largest score.
    assert done["threshold"] == pytest.approx(at_least(job, scores_of(job)[-2]))
    assert done["is_bound"] == any(row["verdict"] == "defect" for row in rows(job))
    if done["is_bound"]:
        assert any(
            "count as normal images here, so the rate of false alarms is a bound" in line
            for line in said
        )


def test_a_rate_that_the_images_cannot_promise_is_refused(job: InspectJob) -> None:
    num = len(Detector.load(job.models, "washer").settings.normal_scores)
    with pytest.raises(RateError, match=re.escape(f"with {num} scores of normal images no rate")):
        setting(job, false_alarms=0.005)
    assert len(versions.version_names(job.models, "washer")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --false-alarms, --per-night and --value, got none"),
        ({"value": 1.0, "false_alarms": 0.1}, "got --false-alarms and --value"),
        ({"per_night": 20}, "--per-night needs --from"),
        ({"per_night": -1, "nights": ("a",)}, "--per-night must not be negative, got -1"),
        ({"false_alarms": 1.5}, "--false-alarms must be between 0 % and 100 %, got 150 %"),
    ],
)
def test_what_asks_for_no_threshold_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ThresholdJob(models="m", category="washer", **options)


def test_a_value_that_is_no_threshold_is_refused_before_anything_is_written(
    job: InspectJob,
) -> None:
    with pytest.raises(ValueError, match="threshold must be in"):
        setting(job, value=-1.0, apply=job.output)
    assert len(versions.version_names(job.models, "washer")) == 1
    assert saved_detector.load_settings(
        job.models, "washer", versions.version_names(job.models, "washer")[0]
    )


@of_the_form_plain
def test_product_parts_follow_the_new_verdicts(job: InspectJob) -> None:
    archive = uris.absolute(job.archive)
    pattern = r"([^/]+)/[^/]+$"  # the folder
    made = product_parts.make(job.output, pattern, archive, lambda: None)
    assert made.verdicts["defect"] > 0
    highest, parts = scores_of(job)[-1], Path(job.output, "parts", "washer", "parts.parquet")
    before = parts.read_bytes()
    setting(job, value=highest + 1, apply=job.output)
    assert parts.read_bytes() == before  # the latest run was not asked for parts
    asked = {"archive": archive, "part_pattern": pattern}
    record = output_layout.latest_run_record(job.output)
    files.write_bytes(record, json.dumps({"asked": asked}).encode())
    setting(job, value=highest + 2, apply=job.output)
    found = {row["part"]: row["verdict"] for row in pq.read_table(parts).to_pylist()}
    assert len(found) == made.verdicts.total()
    # The file that is no image is in the folder of good ones.
    assert found.pop("good") == "reject"
    assert set(found.values()) == {"normal"}


def test_a_place_without_verdicts_is_refused(job: InspectJob, tmp_path: Path) -> None:
    for options in ({"apply": str(tmp_path / "no")}, {"nights": (str(tmp_path / "no"),)}):
        with pytest.raises(ValueError, match="has no verdicts; give the output of an inspection"):
            setting(job, value=3.0, **options)
    assert not (tmp_path / "no").exists()
