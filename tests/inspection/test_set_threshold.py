"""A new threshold: a version of its own, and the verdicts that a fresh inspection would give."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inspection.test_reviewed_scores import reviews_of
from tests.support import small_detectors
from tests.support.inspection_by_hand import again, inspect, job_at, rows
from tests.training.test_full_form import fitted_washer
from vqad.detection import saved_detector, versions
from vqad.detection.calibrate import SMALLEST_THRESHOLD
from vqad.detection.false_alarms import RateError
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.inspection import stored_reviews
from vqad.inspection.job import InspectJob
from vqad.inspection.set_threshold import set_threshold
from vqad.inspection.threshold_job import ThresholdJob
from vqad.storage import files
from vqad.storage.errors import IncompleteError

VERDICT = ("image", "verdict", "score", "threshold", "regions", "p_value", "model_version")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Washers, and a detector of each form; one image is none."""
    home = tmp_path_factory.mktemp("washers")
    small_detectors.draw(home / "archive", ("washer",))
    small_detectors.save_detector(str(home / "plain"), "washer", str(home / "archive"))
    fitted_washer().save(str(home / "full"))
    (home / "archive" / "washer" / "test" / "good" / "broken.png").write_bytes(b"none")
    for form in ("plain", "full"):
        inspect(again(job_at(home), models=str(home / form), output=str(home / f"night-{form}")))
    return home


@pytest.fixture(params=["plain", "full"])
def job(drawn: Path, tmp_path: Path, request: pytest.FixtureRequest) -> InspectJob:
    """A finished night."""
    shutil.copytree(drawn / request.param, tmp_path / "models")
    shutil.copytree(drawn / f"night-{request.param}", tmp_path / "output")
    return again(job_at(tmp_path), archive=str(drawn / "archive"))


def setting(job: InspectJob, **options: Any) -> dict[str, Any]:
    wanted = {"models": job.models, "category": "washer", **options}
    return set_threshold(ThresholdJob(**wanted), lambda _: None)


def verdicts(job: InspectJob) -> list[dict[str, Any]]:
    return [{name: row[name] for name in VERDICT} for row in rows(job)]


def scores_of(job: InspectJob) -> list[float]:
    return sorted(row["score"] for row in rows(job) if row["score"] is not None)


def at_least(job: InspectJob, score: float) -> float:
    """The score, or the smallest threshold of the detector's form."""
    form = Detector.load(job.models, "washer").settings.form
    return score if form == "full" else max(SMALLEST_THRESHOLD, score)


def thresholds_between(job: InspectJob) -> list[float]:
    """Below all scores, between each two of them, and above all."""
    scores = scores_of(job)
    inner = [(one + other) / 2 for one, other in pairwise(scores)]
    return [max(0.0, scores[0] - 1), *inner, scores[-1] + 1]


def fresh(job: InspectJob, number: int) -> list[dict[str, Any]]:
    anew = again(job, output=f"{job.output}-{number}")
    inspect(anew)
    return verdicts(anew)


def test_verdicts_and_regions_are_those_of_a_fresh_inspection(job: InspectJob) -> None:
    """The threshold goes down and up again, and each time on what the last one left."""
    old = {row["image"]: row for row in verdicts(job)}
    values = thresholds_between(job)
    seen: set[str] = set()
    for number, value in enumerate([values[4], values[6], values[-1], values[5], values[0]]):
        done = setting(job, value=value, apply=job.output, promote=True)
        expected = {row["image"]: row for row in fresh(job, number)}
        kept = 0
        for row in verdicts(job):
            if row["model_version"] == done["version"]:
                assert row == expected[row["image"]]
                seen.add(row["verdict"])
            else:
                kept += 1
                assert row == old[row["image"]]
        assert done["applied"]["kept_old"] == kept
        assert done["in_force"]
        old = {row["image"]: row for row in verdicts(job)}
    assert seen == {"normal", "defect", "reject"}
    inspect(again(job, redo="changed"))
    for row in verdicts(job):  # batches of other sizes differ in the last bits of scores
        same = ("verdict", "threshold", "model_version")
        assert [row[each] for each in same] == [expected[row["image"]][each] for each in same]


def test_a_map_agrees_with_its_verdict_and_names_the_version_that_made_it(job: InspectJob) -> None:
    for value in thresholds_between(job)[2:]:
        setting(job, value=value, apply=job.output, promote=True)
        judged = {row["image"]: row for row in rows(job)}
        detector = Detector.load(job.models, "washer")
        names = versions.version_names(job.models, "washer")
        for row in rows(job, "maps"):
            verdict = judged[row["image"]]
            assert row["model_version"] in names
            if verdict["model_version"] != detector.version:
                continue
            anomaly_map = np.array(row["anomaly_map"], np.float32).reshape(
                row["map_height_px"], row["map_width_px"]
            )
            size = {"source_width_px": 48, "source_height_px": 48}
            found = [vars(each) for each in detector.regions(anomaly_map, **size)]
            assert found == verdict["regions"]
            assert bool(found) == (verdict["verdict"] == "defect")


@pytest.mark.parametrize("maps", ["defect", "none"])
def test_what_needs_a_map_that_was_not_kept_is_counted_and_left(
    job: InspectJob, tmp_path: Path, maps: str
) -> None:
    job = again(job, maps=maps, output=str(tmp_path / "anew"))
    inspect(job)
    before = {row["image"]: row for row in verdicts(job)}
    lowest = min(scores_of(job)) - 1e-3
    done = setting(job, value=max(lowest, 0.0), apply=job.output, promote=True)
    old = [row for row in verdicts(job) if row["model_version"] != done["version"]]
    assert len(old) == done["applied"]["kept_old"] > 0
    assert all(row == before[row["image"]] for row in old)
    inspect(again(job, redo="changed"))
    assert {row["model_version"] for row in verdicts(job)} == {done["version"]}


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


def test_a_run_that_is_killed_at_any_write_ends_in_the_same_when_it_runs_again(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"value": thresholds_between(job)[5], "apply": job.output, "promote": True}
    home = Path(job.output).parent
    calm = _copied(job, home / "undisturbed")
    setting(calm, **wanted | {"apply": calm.output})
    expected = [row | {"model_version": ""} for row in verdicts(calm)]
    at_first = {row["model_version"] for row in verdicts(job)}
    killed = 0
    for number in range(1, 40):
        ours = _copied(job, home / f"tried-{number}")
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_bytes", _failing_at(number, files.write_bytes))
            try:
                setting(ours, **wanted | {"apply": ours.output})
            except (IncompleteError, OSError):
                killed += 1
        done = setting(ours, **wanted | {"apply": ours.output})
        assert done["in_force"]
        found = verdicts(ours)
        # Maps may be written anew and need no inspection; the version is one, however often it ran.
        own = {done["version"], done["from_version"]}
        # A row whose map agrees with its old verdict alone keeps the version that it had at first.
        assert {row["model_version"] for row in found} <= own | at_first
        assert [row | {"model_version": ""} for row in found] == expected
        whole = versions.version_names(ours.models, "washer")
        assert len(whole) == 2
        if killed < number:
            break
    assert killed >= 5


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


def test_a_night_of_another_detector_says_nothing(job: InspectJob) -> None:
    detector = Detector.load(job.models, "washer")
    other = detector.with_settings(minimum_area_px=detector.settings.minimum_area_px + 1)
    other.save(job.models)
    with pytest.raises(ValueError, match=re.escape("(8 were by others); inspect a night with it")):
        setting(job, per_night=1, nights=(job.output,))
    before = verdicts(job)
    done = setting(job, value=scores_of(job)[0], apply=job.output)
    assert done["applied"]["by_other_detectors"] == 9
    assert done["applied"]["updated"] == 0
    assert verdicts(job) == before


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


def test_a_place_without_verdicts_is_refused(job: InspectJob, tmp_path: Path) -> None:
    for options in ({"apply": str(tmp_path / "no")}, {"nights": (str(tmp_path / "no"),)}):
        with pytest.raises(ValueError, match="has no verdicts; give the output of an inspection"):
            setting(job, value=3.0, **options)
    assert not (tmp_path / "no").exists()
