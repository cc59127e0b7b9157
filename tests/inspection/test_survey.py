"""A manifest in place of an archive: the images that it names are inspected, and no others."""

import tarfile
from pathlib import Path

import pandas as pd
import pytest

from tests.support.inspection_by_hand import again, home, inspect, job, rows
from vqad.detector import Detector
from vqad.images.routing import Routing
from vqad.inspection.dry_run import describe
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.model import bfloat16

__all__ = ["home", "job"]


def picture(job: InspectJob, category: str, name: str) -> Path:
    return Path(job.archive) / category / "test" / "good" / name


def by_manifest(job: InspectJob, named: dict[str, str], ending: str = "csv") -> InspectJob:
    """The job with a table of these images and categories for its archive."""
    table = pd.DataFrame({"image": named.keys(), "category": named.values()})
    path = f"{Path(job.output).parent}/night.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    return again(job, archive=path)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_a_manifest_names_is_inspected_or_missing_and_nothing_else(
    job: InspectJob, ending: str
) -> None:
    images = [picture(job, "fabric", "000.png"), picture(job, "washer", "001.png")]
    gone = picture(job, "washer", "gone.png")
    named = {str(images[0]): "washer", images[1].as_uri(): "washer", str(gone): "fabric"}
    night = by_manifest(job, named, ending)
    inspect(night)
    found = {row["image"]: (row["category"], row["error"]) for row in rows(night)}
    assert found == {
        images[0].as_uri(): ("washer", ""),
        images[1].as_uri(): ("washer", ""),
        gone.as_uri(): ("fabric", "missing"),
    }
    (missing,) = (row for row in rows(night) if row["error"])
    assert missing["source_modified_at"] is None
    assert inspect(night).num_todo == 0
    gone.write_bytes(images[0].read_bytes())
    assert inspect(again(night, redo="changed")).num_todo == 1
    assert not any(row["error"] for row in rows(night))


def test_a_manifest_may_name_members_or_whole_shards(job: InspectJob) -> None:
    folder, packed = picture(job, "washer", "").parent, Path(job.output).parent / "packed"
    packed.mkdir()
    for name in ("some.tar", "all.tar"):
        with tarfile.open(packed / name, "w") as tar:
            for path in sorted((folder / "good").glob("*.png"))[:2]:
                tar.add(path, path.name)
    some, whole = (packed / name for name in ("some.tar", "all.tar"))
    night = by_manifest(job, {f"{some.as_uri()}#000.png": "washer", whole.as_uri(): "fabric"})
    inspect(night)
    found = {row["image"].rpartition("/")[2]: row["category"] for row in rows(night)}
    assert found == {
        "some.tar#000.png": "washer",
        "some.tar#001.png": "_unknown",
        "all.tar#000.png": "fabric",
        "all.tar#001.png": "fabric",
    }


def test_a_shard_that_a_manifest_names_and_that_is_gone_is_missing(job: InspectJob) -> None:
    gone = Path(job.output).parent / "gone.tar"
    night = by_manifest(job, {gone.as_uri(): "fabric"})
    inspect(night)
    assert [(row["image"], row["error"]) for row in rows(night)] == [(gone.as_uri(), "missing")]


def test_a_manifest_is_narrowed_by_whole_paths_and_may_leave_the_category_to_others(
    job: InspectJob,
) -> None:
    named = {str(picture(job, each, "000.png")): "no such" for each in ("fabric", "washer")}
    night = again(by_manifest(job, named), routing=Routing(category="washer"))
    assert make_plan(night).todo["category"].to_pylist() == ["washer", "washer"]
    assert len(make_plan(again(night, include="*/fabric/*")).todo) == 1
    pattern = again(night, routing=Routing(category_pattern="archive/([a-z]+)/"))
    assert make_plan(pattern).todo["category"].to_pylist() == ["fabric", "washer"]
    with pytest.raises(ValueError, match=r"^no images in .*night.csv \(matching 'none'\)$"):
        make_plan(again(night, include="none"))


def test_a_run_says_which_categories_are_slow_on_this_machine(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    washer = Detector.load(job.models, "washer")
    washer.with_settings(precision="bfloat16").save(job.models)
    monkeypatch.setattr(bfloat16, "has_instructions", lambda device: False)
    lines = list(describe(make_plan(job)))
    assert (
        "washer: in bfloat16 by float32 kernels, because this machine has no instructions for it, "
        "which is no faster than float32"
    ) in lines
    monkeypatch.setattr(bfloat16, "has_instructions", lambda device: True)
    assert not [line for line in describe(make_plan(job)) if "bfloat16" in line]
