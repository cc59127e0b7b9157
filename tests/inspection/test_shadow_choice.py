"""The version that is the shadow of a night, and what is refused before the night begins."""

from pathlib import Path

import pytest

from tests.inspection.test_shadow import save_other
from tests.support.inspection_by_hand import again, home, job
from vqad.detection.weights import DetectorError
from vqad.images.placement import ImageForm
from vqad.inspection import shadow
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan

__all__ = ["home", "job"]  # fixtures


def test_latest_is_the_newest_version_that_is_not_in_force(job: InspectJob) -> None:
    save_other(job, "fabric", 1.0)
    newest = save_other(job, "fabric", 2.0)
    plan = make_plan(again(job, shadow=("latest",)))
    assert plan.shadows.versions == {"fabric": newest}
    shadow.versions.promote(job.models, "fabric", newest, who="ann", why="")
    assert make_plan(again(job, shadow=("latest",))).shadows.versions == {}


def test_a_shadow_of_another_size_is_refused_and_left_out_of_latest(job: InspectJob) -> None:
    version = save_other(job, "fabric")
    in_force, forms = {"fabric": "one"}, {"fabric": ImageForm(size_px=64)}
    with pytest.raises(shadow.ShadowError, match=r"takes images of 32 pixels, the one in force 64"):
        shadow.pinned(job.models, [f"fabric={version}"], in_force, forms)
    found = shadow.pinned(job.models, ["latest"], in_force, forms)
    assert found.versions == {}
    assert found.left_out["fabric"].startswith(f"{version}: it takes images of 32 pixels")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("fabric",), "shadow must be CATEGORY=VERSION or latest, got fabric"),
        (("fabric=",), "shadow must be CATEGORY=VERSION or latest"),
        (("latest", "fabric=1"), "shadow must be CATEGORY=VERSION or latest, got latest"),
        (("fabric=1", "fabric=2"), "one version per category, got 1 and 2 for fabric"),
    ],
)
def test_what_is_no_shadow_is_refused_by_its_text(
    job: InspectJob, asked: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        again(job, shadow=asked)


def test_a_shadow_that_is_not_there_or_broken_is_refused_before_the_night(job: InspectJob) -> None:
    with pytest.raises(DetectorError, match="fabric has no version 2026-1"):
        make_plan(again(job, shadow=("fabric=2026-1",)))
    with pytest.raises(shadow.ShadowError, match="no detector of lid is inspecting"):
        make_plan(again(job, shadow=("lid=2026-1",)))
    version = save_other(job, "fabric")
    weights = Path(job.models, "fabric", version, "prior.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DetectorError, match=r"prior.safetensors does not match"):
        make_plan(again(job, shadow=("latest",)))
