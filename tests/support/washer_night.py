"""A finished night of washers, with a detector of each form, for tests of another threshold."""

import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_detectors
from tests.support.inspection_by_hand import again, inspect, job_at, rows
from tests.training.test_full_form import fitted_washer
from vqad.inspection.job import InspectJob
from vqad.inspection.set_threshold import set_threshold
from vqad.inspection.threshold_job import ThresholdJob

VERDICT = (
    *("image", "verdict", "score", "threshold", "regions", "p_value", "model_version"),
    *("region_lengths_px", "regions_mm"),
)


@cache
def _inspected(home: Path) -> Path:
    """Eight washers and a file that is no image, inspected by a detector of each form."""
    small_detectors.draw(home / "archive", ("washer",))
    small_detectors.save_detector(str(home / "plain"), "washer", str(home / "archive"))
    fitted_washer().with_settings(px_per_mm=4.0).save(str(home / "full"))
    (home / "archive" / "washer" / "test" / "good" / "broken.png").write_bytes(b"none")
    for form in ("plain", "full"):
        inspect(again(job_at(home), models=str(home / form), output=str(home / f"night-{form}")))
    return home


@pytest.fixture(params=["plain", "full"])
def job(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, request: pytest.FixtureRequest
) -> InspectJob:
    """A copy of the night by the detector of one form."""
    drawn = _inspected(tmp_path_factory.getbasetemp() / "washers")
    shutil.copytree(drawn / request.param, tmp_path / "models")
    shutil.copytree(drawn / f"night-{request.param}", tmp_path / "output")
    return again(job_at(tmp_path), archive=str(drawn / "archive"))


of_the_form_full = pytest.mark.parametrize("job", ["full"], indirect=True)
of_the_form_plain = pytest.mark.parametrize("job", ["plain"], indirect=True)


def setting(job: InspectJob, **options: Any) -> dict[str, Any]:
    """`vqad threshold` in this process; returns its summary."""
    wanted = {"models": job.models, "category": "washer", **options}
    return set_threshold(ThresholdJob(**wanted), lambda _: None)


def verdicts(job: InspectJob) -> list[dict[str, Any]]:
    """The rows with the columns that a threshold changes."""
    return [{name: row[name] for name in VERDICT} for row in rows(job)]


def scores_of(job: InspectJob) -> list[float]:
    """The scores of the night, the smallest first."""
    return sorted(row["score"] for row in rows(job) if row["score"] is not None)


def thresholds_between(job: InspectJob) -> list[float]:
    """A threshold below all scores, one between each two of them, and one above all."""
    scores = scores_of(job)
    inner = [(one + other) / 2 for one, other in pairwise(scores)]
    return [max(0.0, scores[0] - 1), *inner, scores[-1] + 1]
