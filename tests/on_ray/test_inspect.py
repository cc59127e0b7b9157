"""Each image has one verdict, whatever its neighbours are, and the same one in any run."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support import small_detectors
from tests.support.finished_inspection import ON_RAY, Finished, inspect, verdicts
from vqad.images import listing
from vqad.images.routing import Routing
from vqad.inspection import sink
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.on_ray import failures, night, session
from vqad.on_ray import inspect as on_ray
from vqad.storage import files, lease, uris
from vqad.storage.errors import IncompleteError, details_of, work_begun

pytestmark = ON_RAY


def by_path(rows: list[dict[str, Any]], archive: str) -> dict[str, dict[str, Any]]:
    return {uris.relative(row["image"], archive): row for row in rows}


def assert_same(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    for path, row in found.items():
        other = expected[path]
        for name in ("verdict", "codes_changed", "category", "error", "threshold", "width_px"):
            assert row[name] == other[name], (path, name)
        boxes = [
            [{**each, "peak": 0} for each in regions]
            for regions in (row["regions"], other["regions"])
        ]
        assert boxes[0] == boxes[1], path
        if row["verdict"] != "reject":
            assert row["score"] == pytest.approx(other["score"], abs=1e-3)


def test_odd_and_bad_files_get_one_row_each_with_the_right_word(finished: Finished) -> None:
    rows = by_path(verdicts(finished.output), str(finished.archive))
    found = {path.rpartition("/")[2]: row for path, row in rows.items() if "/odd/" in path}
    assert {name: row["error"] for name, row in found.items()} == finished.odd
    assert (found["deep.png"]["width_px"], found["deep.png"]["height_px"]) == (31, 25)


def test_the_neighbours_of_bad_files_are_inspected(finished: Finished) -> None:
    rows = by_path(verdicts(finished.output), str(finished.archive))
    drawn = [row for path, row in rows.items() if "/test/" in path and "/odd/" not in path]
    assert len(drawn) == 16
    assert {row["error"] for row in drawn} == {""}
    assert sum(row["codes_changed"] for row in drawn) > 0


def test_an_image_without_category_or_detector_is_a_reject(finished: Finished) -> None:
    rows = by_path(verdicts(finished.output), str(finished.archive))
    for path, category, detail in (
        ("ampoule/1.png", "ampoule", "no detector for ampoule"),
        ("alone.png", "_unknown", "the category cannot be told"),
    ):
        row = rows[path]
        assert (row["verdict"], row["error"]) == ("reject", "unknown_category")
        assert (row["category"], row["error_detail"]) == (category, detail)


def test_a_single_image_is_inspected_without_a_warning(finished: Finished, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session._quieten()
        inspect(
            archive=finished.archive / "alone.png",
            category="fabric",
            models=finished.models,
            output=tmp_path / "output",
        )
    assert len(verdicts(tmp_path / "output")) == 1
    assert [each.message for each in caught if each.category is UserWarning] == []


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.output, tmp_path / "output"))


def parts(output: Path) -> dict[str, bytes]:
    return {str(each.relative_to(output)): each.read_bytes() for each in output.rglob("*.parquet")}


def test_the_same_command_again_skips_everything_and_writes_nothing_twice(
    finished: Finished, copied: Path
) -> None:
    before = parts(copied)
    found = inspect(archive=finished.archive, models=finished.models, output=copied)
    assert found["skipped"] == found["listed"] == finished.summary["listed"]
    assert (found["images"], found["normal"], found["defect"], found["reject"]) == (0, 0, 0, 0)
    assert parts(copied) == before


def test_what_an_interrupted_run_left_undone_is_done_by_the_next(
    finished: Finished, copied: Path
) -> None:
    lost = sorted((copied / "verdicts" / "washer").iterdir())[0]
    num_lost = len([row for row in verdicts(copied) if row["category"] == "washer"])
    lost.unlink()
    orphan = copied / "maps" / "washer" / lost.name
    assert orphan.exists()
    assert sink.remove_orphans(str(copied)) == 1
    assert not orphan.exists()
    assert sink.remove_orphans(str(copied)) == 0
    found = inspect(archive=finished.archive, models=finished.models, output=copied)
    assert found["images"] == num_lost > 0
    assert found["skipped"] == finished.summary["listed"] - num_lost
    archive = str(finished.archive)
    assert_same(by_path(verdicts(copied), archive), by_path(verdicts(finished.output), archive))
    # Named after the images in it, so nothing is there twice.
    assert parts(copied).keys() == parts(finished.output).keys()


def test_another_place_order_batch_size_and_number_of_actors_give_the_same_answers(
    finished: Finished, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    paths = [
        uris.relative(each.image, str(finished.archive))
        for each in listing.list_images(str(finished.archive), include="*/test/*")
    ]
    new_names = {}
    for at, path in enumerate(reversed(paths)):
        folder, name = path.partition("/")[0], path.rpartition("/")[2]
        new_names[f"{folder}/{at:03}-{name}"] = path
        (elsewhere / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(
            finished.archive / path, elsewhere / folder / f"{at:03}-{name}", follow_symlinks=False
        )
    inspect(
        archive=elsewhere,
        models=finished.models,
        output=tmp_path / "output",
        batch_size=3,
        num_actors=2,
        maps="defect",
    )
    rows = verdicts(tmp_path / "output")
    found = {new_names[path]: row for path, row in by_path(rows, str(elsewhere)).items()}
    every = by_path(verdicts(finished.output), str(finished.archive))
    assert_same(found, {path: every[path] for path in paths})
    kept = (tmp_path / "output" / "maps").rglob("*.parquet")
    mapped = {image for part in kept for image in pq.read_table(part)["image"].to_pylist()}
    assert mapped == {row["image"] for row in rows if row["verdict"] == "defect"}


def test_models_archive_and_output_on_s3_give_the_same_rows_as_local_ones(
    finished: Finished, bucket: str
) -> None:
    local = [*finished.archive.rglob("*"), *finished.models.rglob("*")]
    home = finished.archive.parent
    for path in local:
        if path.is_file():  # a link to nothing has no counterpart
            uri = uris.join(bucket, str(path.relative_to(home)))
            files.write_bytes(uri, path.read_bytes())
    archive, output = f"{bucket}/archive", f"{bucket}/output"
    found = inspect(archive=archive, models=f"{bucket}/models", output=output)
    assert found["images"] == finished.summary["images"] - 1
    every = by_path(verdicts(finished.output), str(finished.archive))
    del every["fabric/test/odd/link.png"]
    assert_same(by_path(verdicts(output), archive), every)
    assert files.exists(f"{output}/run.json")
    again = inspect(archive=archive, models=f"{bucket}/models", output=output)
    assert (again["images"], again["skipped"]) == (0, found["images"])


def routed(finished: Finished, archive: Path, **routing: str) -> list[str]:
    job = InspectJob(
        archive=str(archive),
        models=str(finished.models),
        output=str(archive / "none"),
        routing=Routing(**routing),
    )
    return make_plan(job).todo["category"].to_pylist()


@pytest.fixture
def flat(finished: Finished, tmp_path: Path) -> Path:
    """Two images of no folder: fabric_1.png and washer_2.png."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in ("fabric_1", "washer_2"):
        source = finished.archive / name.partition("_")[0] / "test" / "good" / "000.png"
        shutil.copy(source, folder / f"{name}.png")
    return folder


def test_the_first_folder_names_the_category(finished: Finished) -> None:
    found = routed(finished, finished.archive)
    assert set(found) == {"fabric", "washer", "ampoule", "_unknown"}


def test_one_category_may_be_given_for_all_images(finished: Finished, flat: Path) -> None:
    assert routed(finished, flat, category="washer") == ["washer", "washer"]


def test_a_pattern_names_the_category_by_its_first_group(finished: Finished, flat: Path) -> None:
    pattern = "([a-z]+)_[0-9]"
    assert routed(finished, flat, category_pattern=pattern) == ["fabric", "washer"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_names_the_category(finished: Finished, flat: Path, kind: str) -> None:
    import pandas as pd

    # One by path and one by URI; the one not in it can't be told.
    shutil.copy(flat / "fabric_1.png", flat / "third.png")
    images = [str(flat / "fabric_1.png"), (flat / "washer_2.png").as_uri()]
    table = pd.DataFrame({"image": images, "category": ["washer", "fabric"]})
    manifest = flat / f"manifest.{kind}"
    table.to_csv(manifest, index=False) if kind == "csv" else table.to_parquet(manifest)
    found = routed(finished, flat, manifest=str(manifest))
    assert found == ["washer", "_unknown", "fabric"]


def test_a_plan_pins_the_version_in_force(finished: Finished, tmp_path: Path) -> None:
    models = str(shutil.copytree(finished.models, tmp_path / "models"))
    small_detectors.draw(tmp_path / "data", ("fabric",))
    newer = small_detectors.save_detector(models, "fabric", str(tmp_path / "data"))
    job = InspectJob(archive=str(finished.archive), models=models, output=str(tmp_path / "none"))
    assert make_plan(job).versions["fabric"] == newer


def test_a_lease_lost_while_workers_write_is_said_in_one_line_with_the_traceback_apart(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else, on a slow machine, the holder's own thread notices it before the workers do.
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 3600.0)
    monkeypatch.setattr(lease, "LIFE_S", 3600.0)
    job = InspectJob(
        archive=str(finished.archive / "washer"),
        models=str(finished.models),
        output=str(tmp_path),
        routing=Routing(category="washer"),
    )
    with lease.held(job.output, "ours") as held:
        (tmp_path / "lease.json").write_text('{"holder": "x", "run": "theirs", "host": "far"}')
        with (
            pytest.raises(IncompleteError) as caught,
            work_begun(),
            failures.explained(night.FEWER),
        ):
            on_ray.inspect(job, make_plan(job), lambda line: None, held=held)
    assert str(caught.value) == (
        f"the lease on {job.output} is lost: run theirs on far, process unknown has it"
    )
    assert "LeaseLostError" in details_of(caught.value)
    assert "in confirm" in details_of(caught.value)
    assert not list(tmp_path.rglob("part-*"))
