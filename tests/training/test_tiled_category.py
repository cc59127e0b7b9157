"""A detector with tiles: fitted, saved, loaded, and judging whole images."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET
from tests.training.test_segmenter import SMALL
from vqad.detection.score import score
from vqad.detector import Detector
from vqad.images.decoding import WholeImage, decode_whole
from vqad.images.tiles import Tiling
from vqad.synthetic import draw
from vqad.training import dataset
from vqad.training.category import Training
from vqad.training.dataset import Examples
from vqad.training.good_images import good_images
from vqad.training.learned_tiles import drawing_of, tiles_of_each
from vqad.training.networks import OnDisk
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset
from vqad.training.recalibrate import recalibrate
from vqad.training.tiled_category import read_whole, training_of

SIZE_PX = 80
NUM_IMAGES = 16
TILING = Tiling(tile_px=32, overlap_px=8)


def file_of(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


@cache
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [draw("fabric", size_px=SIZE_PX, rng=rng) for _ in range(NUM_IMAGES)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Good images, of which one is smaller than a tile."""
    folder = tmp_path_factory.mktemp("tiles")
    good = folder / "fabric" / "train" / "good"
    good.mkdir(parents=True)
    for at, picture in enumerate(pictures()):
        (good / f"{at:02}.png").write_bytes(file_of(picture))
    (good / "small.png").write_bytes(file_of(pictures()[0][:20]))
    return str(folder)


def options_of(form: str, **changes: Any) -> TrainOptions:
    return TrainOptions(
        **{
            "category": "fabric",
            "kind": "texture",
            "preset": "tiny",
            "form": form,
            "eta": 0.05,
            "tile_px": TILING.tile_px,
            "tile_overlap_px": TILING.overlap_px,
            **changes,
        }
    )


def read_from(data: str, options: TrainOptions, **more: Any) -> Examples:
    listed = good_images(data, "fabric")
    size_px = CONFIG.image_size_px
    drawing = drawing_of(options, size_px=size_px, num_images=200)
    return dataset.read(listed, size_px=size_px, drawing=drawing, **more)


def training_from(data: str, form: str) -> Training:
    options = options_of(form)
    return training_of(read_from(data, options), options)


def fitted(training: Training) -> Detector:
    assert list(training.records())
    return training.detector()


@pytest.fixture(autouse=True, scope="module")
def small_preset() -> Iterator[None]:
    preset = Preset(
        vqvae=CONFIG,
        prior=PRIOR,
        fit_vqvae=VQVAE_BUDGET,
        fit_prior=PRIOR_BUDGET,
        segmenter=SMALL,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", preset)
        yield


@pytest.fixture(scope="module")
def full(small_preset: None, data: str) -> Detector:
    return fitted(training_from(data, "full"))


def images_of(data: str) -> list[WholeImage]:
    listed = good_images(data, "fabric")
    return [read_whole(each.image) for each in listed if not each.image.endswith("small.png")]


def test_images_are_held_out_and_not_tiles(small_preset: None, data: str) -> None:
    training = training_from(data, "full")
    num = tiles_of_each(200)
    assert num == 7
    assert len(training.held_out_names) == 2
    assert len(training.held_out) == 2 * num
    assert len(training.learned_from) == 14 * num
    images = training.calibration().images
    assert not set(images.group_of) & set(images.held_out)
    assert set(images.groups) <= set(training.learned_names)
    assert training.record().num_images == NUM_IMAGES
    assert training.minimum_area.pixel.area_px == pytest.approx(4)


def test_an_image_smaller_than_a_tile_is_left_out_and_named(data: str) -> None:
    found = read_from(data, options_of("full"))
    assert len(found.names) == NUM_IMAGES
    (line,) = found.unreadable
    assert "small.png: unsupported: 80 x 20 pixels are less than one tile of 32 x 32" in line


def test_the_threshold_is_of_scores_of_whole_images(full: Detector) -> None:
    found = full.settings.found
    assert full.settings.tiling == TILING
    assert full.settings.local_statistics.shared
    assert len(found.cross_fitted_scores) == NUM_IMAGES
    assert len(found.held_out_scores) == 2
    held_out = [full.inspect_whole(read_whole(name))[0].scores[0] for name in found.held_out]
    # Only the usual surprisal is another: here it is that of all held-out images.
    assert held_out == pytest.approx(found.held_out_scores, abs=0.5)


def test_another_grid_of_tiles_changes_scores_less_than_they_spread(
    full: Detector, data: str
) -> None:
    grids = [
        TILING.grid(SIZE_PX, SIZE_PX, shift_px=shift_px)
        for shift_px in (0, (TILING.tile_px - TILING.overlap_px) // 2)
    ]
    assert grids[0] != grids[1]
    usual, moved = (
        np.array([full.inspect_whole(each, grid)[0].scores[0] for each in images_of(data)])
        for grid in grids
    )
    assert np.abs(moved - usual).mean() < np.std(full.settings.found.cross_fitted_scores)


def test_a_defect_across_a_seam_is_one_region(full: Detector) -> None:
    picture = pictures()[0].copy()
    cv2.line(picture, (10, 24), (70, 44), (255, 0, 255), 5)
    found, _ = full.inspect_whole(decode_whole(file_of(picture)))
    assert found.verdicts == ["defect"]
    (anomaly_map,) = found.anomaly_maps
    area_px = full.settings.minimum_map_area_px(anomaly_map.shape, source_px=(SIZE_PX, SIZE_PX))
    assert score(anomaly_map, minimum_area_px=area_px) == found.scores[0]
    regions = full.regions(anomaly_map, source_width_px=SIZE_PX, source_height_px=SIZE_PX)
    assert regions[0].width_px > TILING.tile_px


@pytest.mark.parametrize("form", ["full", "plain"])
def test_saved_and_calibrated_again_it_judges_alike(
    form: str, full: Detector, data: str, tmp_path: Path
) -> None:
    detector = full if form == "full" else fitted(training_from(data, form))
    assert len(detector.settings.found.held_out_scores) == 2
    models = str(tmp_path)
    detector.save(models)
    again = Detector.load(models, "fabric")
    assert again.settings == detector.settings
    image = images_of(data)[0]
    one, other = (each.inspect_whole(image)[0] for each in (detector, again))
    assert one.scores == other.scores
    np.testing.assert_array_equal(one.anomaly_maps[0], other.anomaly_maps[0])
    assert torch.equal(one.codes, other.codes)
    asked = replace(options_of(form), tile_px=None, tile_overlap_px=None)
    done = recalibrate(data, models, asked, cpus=1, gpus=0.0)
    assert "failed" not in done, done
    new = Detector.load(models, "fabric").settings
    assert (new.tiling, new.found.held_out) == (TILING, detector.settings.found.held_out)
    assert len(new.found.held_out_scores) == 2
    assert new.threshold == pytest.approx(detector.settings.threshold, rel=0.3)


def test_other_tiles_need_another_training(full: Detector, data: str, tmp_path: Path) -> None:
    full.save(str(tmp_path))
    asked = options_of("full", tile_px=40, tile_overlap_px=0)
    done = recalibrate(data, str(tmp_path), asked, cpus=1, gpus=0.0)
    assert done["failed"] == (
        "the fabric detector has tiles of 32 px that overlap by 8 px; to have one with tiles of 40 "
        "px that overlap by 0 px, train it again"
    )


def test_tiles_that_are_mapped_from_a_file_are_learned_from_alike(
    small_preset: None, data: str
) -> None:
    options = options_of("plain")
    training, other = (
        training_of(read_from(data, options, in_memory_bytes=most), options) for most in (2**30, 0)
    )
    some = torch.tensor([3, 50, 7])
    assert isinstance(other.learned_from, OnDisk)
    assert torch.equal(other.learned_from[some], training.learned_from[some])
    assert torch.equal(other.held_out, training.held_out)


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png can't be read any more: no such file"):
        read_whole(f"{tmp_path}/gone.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_px": None}, "tile_overlap_px 8 needs tile_px: give --tile-px as well"),
        ({"tile_overlap_px": 20}, "tile_overlap_px must be from 0 to half of tile_px, 16, got 20"),
        ({"form": "joined"}, "the form joined takes no tiles: give --form plain or full"),
        ({"resize": "pad"}, "tiles are square, so there is nothing to pad: leave out --resize"),
    ],
)
def test_options_that_make_no_tiles_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options_of(**{"form": "full", **changes})


def test_tiles_change_the_name_of_a_run_only_where_they_are_given() -> None:
    without = options_of("full", tile_px=None, tile_overlap_px=None)
    assert "tile_px" not in without.shaping()
    assert options_of("full").shaping()["tile_px"] == 32
