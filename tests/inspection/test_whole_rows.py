"""Images of a detector with tiles: as files, in a shard, broken, too small, and judged again."""

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support import small_detectors
from tests.support.inspection_by_hand import again, decoded, inspect, job_at, rows
from tests.support.washer_night import setting
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.images.decoding import decode_whole
from vqad.images.placement import ImageForm
from vqad.images.tiles import Tiling
from vqad.inspection import plan, shadow, shard_stage, whole_rows
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.synthetic import draw

TILING = Tiling(tile_px=48, overlap_px=12)
SIZES = ((90, 130), (96, 96), (48, 200), (130, 90), (100, 100))


def picture(at: int, size: tuple[int, int]) -> bytes:
    drawn = draw("fabric", size_px=200, rng=np.random.default_rng(at))[: size[0], : size[1]]
    return cv2.imencode(".png", drawn[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes, one of them smaller than a tile, and one broken."""
    folder = tmp_path_factory.mktemp("whole")
    small_detectors.draw(folder / "drawn", ("fabric",))
    models = str(folder / "models")
    small_detectors.save_detector(models, "fabric", str(folder / "drawn"))
    detector = Detector.load(models, "fabric").with_settings(tiling=TILING)
    images = folder / "archive" / "fabric"
    images.mkdir(parents=True)
    scores = []
    for at, size in enumerate(SIZES):
        data = picture(at, size)
        (images / f"{at}.png").write_bytes(data)
        scores += detector.inspect_whole(decode_whole(data))[0].scores
    (images / "small.png").write_bytes(picture(9, (47, 100)))
    (images / "broken.png").write_bytes(picture(9, (60, 60))[:-500])
    detector.with_settings(
        threshold=float(np.float32(np.median(scores))), found=FitRecord(held_out_scores=scores)
    ).save(models)
    return folder


@pytest.fixture
def job(home: Path, tmp_path: Path) -> InspectJob:
    return again(job_at(home), output=str(tmp_path / "output"))


def by_name(job: InspectJob) -> dict[str, dict[str, Any]]:
    return {row["image"].rpartition("/")[2]: row for row in rows(job)}


def test_every_image_has_one_row_with_the_map_of_the_whole(job: InspectJob) -> None:
    inspect(job)
    found = by_name(job)
    assert len(found) == len(SIZES) + 2
    maps = {row["image"]: row for row in rows(job, "maps")}
    for at, (height_px, width_px) in enumerate(SIZES):
        row = found[f"{at}.png"]
        assert (row["height_px"], row["width_px"]) == (height_px, width_px)
        assert row["verdict"] in ("normal", "defect")
        assert bool(row["regions"]) == (row["verdict"] == "defect")
        own = maps[row["image"]]
        wanted = [round(each * small_detectors.SIZE_PX / 48) for each in (height_px, width_px)]
        assert [own["map_height_px"], own["map_width_px"]] == wanted
    assert {row["verdict"] for row in found.values()} == {"normal", "defect", "reject"}
    small = found["small.png"]
    assert (small["verdict"], small["error"]) == ("reject", "unsupported")
    assert "100 x 47 pixels are less than one tile of 48 x 48" in small["error_detail"]
    assert found["broken.png"]["error"] == "truncated"


def test_an_image_of_another_size_than_the_region_of_interest_is_rejected() -> None:
    form = ImageForm(size_px=32, tiling=TILING, roi_source_px=(96, 96))
    row = {"data": picture(1, (100, 100)), "fetch_seconds": 0.0}
    found = whole_rows.opened(row, form)
    assert found.image is None
    assert (found.row["error"], found.row["error_detail"]) == (
        "unsupported",
        "100 x 100 pixels, but the region of interest is of images of 96 x 96",
    )
    assert whole_rows.opened(row | {"data": picture(1, (96, 96))}, form).image is not None


def test_units_are_small_and_have_no_pixels(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MOST_WHOLE_ROWS", 3)
    units = list(decoded(job, make_plan(job), num_rows=100))
    assert [len(unit) for unit in units] == [3, 3, 1]
    for unit in units:
        assert unit["pixels"].null_count == len(unit)
        assert unit["data"].null_count == len(unit)


def test_members_of_a_shard_have_the_verdicts_of_files(
    job: InspectJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect(job)
    packed = tmp_path / "packed" / "fabric" / "all.tar"
    packed.parent.mkdir(parents=True)
    with tarfile.open(packed, "w") as tar:
        for path in sorted(Path(job.archive).rglob("*.png")):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            tar.addfile(member, io.BytesIO(path.read_bytes()))
    monkeypatch.setattr(shard_stage, "MOST_WHOLE_BYTES", 20_000)
    shards = again(job, archive=str(tmp_path / "packed"), output=str(tmp_path / "of-shards"))
    units = list(decoded(shards, make_plan(shards), num_rows=100))
    assert len(units) > 2
    inspect(shards, num_rows=100)
    kept = ("verdict", "score", "codes_changed", "regions", "error", "width_px")
    wanted = {name: {key: row[key] for key in kept} for name, row in by_name(job).items()}
    found = {row["image"].rpartition("#")[2]: row for row in rows(shards)}
    assert {name: {key: row[key] for key in kept} for name, row in found.items()} == wanted


def test_stored_maps_are_judged_again_as_an_inspection_judges(
    job: InspectJob, home: Path, tmp_path: Path
) -> None:
    models = str(tmp_path / "models")
    shutil.copytree(home / "models", models)
    job = again(job, models=models)
    inspect(job)
    value = min(row["score"] for row in rows(job) if row["score"] is not None) / 2
    done = setting(job, category="fabric", value=value, apply=job.output, promote=True)
    assert (done["applied"]["updated"], done["applied"]["kept_old"]) == (len(SIZES) + 2, 0)
    anew = again(job, output=str(tmp_path / "anew"))
    inspect(anew)
    kept = ("image", "verdict", "score", "threshold", "regions", "model_version")
    found, fresh = ([{key: row[key] for key in kept} for row in rows(one)] for one in (job, anew))
    assert found == fresh
    assert sum(row["verdict"] == "defect" for row in found) == len(SIZES)


def test_a_shadow_without_tiles_cannot_share_images_with_tiles(home: Path) -> None:
    models = str(home / "models")
    detector = Detector.load(models, "fabric")
    other = detector.with_settings(tiling=None).save(models, promote=False)
    forms = {"fabric": detector.settings.image_form}
    with pytest.raises(shadow.ShadowError, match="whole images, the one in force images by tiles"):
        shadow.pinned(models, [f"fabric={other}"], {"fabric": detector.version}, forms)


def test_a_shadow_with_other_tiles_judges_the_same_images(job: InspectJob, home: Path) -> None:
    detector = Detector.load(job.models, "fabric")
    other = detector.with_settings(tiling=Tiling(tile_px=40)).save(job.models, promote=False)
    inspect(again(job, shadow=(f"fabric={other}",)))
    found = rows(again(job, output=f"{job.output}/shadow"))
    assert len(found) == len(SIZES) + 2
    assert {row["model_version"] for row in found} == {other}
