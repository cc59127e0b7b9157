"""A detector with tiles: fitted, saved, loaded, and judging whole images."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
from vqad.training.learned_tiles import TileDrawing
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset
from vqad.training.tiled_category import TiledTraining, read_whole

SIZE_PX = 80
NAMES = [f"file:///fabrics/{number:02}.png" for number in range(16)]
TILING = Tiling(tile_px=32, overlap_px=8)
DRAWING = TileDrawing(tiling=TILING, size_px=CONFIG.image_size_px, num=8, seed=0)


@cache
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: draw("fabric", size_px=SIZE_PX, rng=rng) for name in NAMES}


def file_of(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def read(name: str) -> WholeImage:
    return decode_whole(file_of(pictures()[name]))


def training_of(form: str, **more: object) -> TiledTraining:
    options = TrainOptions(
        category="fabric",
        kind="texture",
        preset="tiny",
        form=form,
        eta=0.05,
        tile_px=TILING.tile_px,
        tile_overlap_px=TILING.overlap_px,
    )
    pixels = np.stack([DRAWING.decode(file_of(each)).pixels for each in pictures().values()])
    return TiledTraining(NAMES, pixels, options, read=read, **more)


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
def full(small_preset: None) -> Detector:
    training = training_of("full")
    assert list(training.records())
    return training.detector()


def scores_of(detector: Detector, shift_px: int = 0) -> np.ndarray:
    found = []
    for name in NAMES:
        image = read(name)
        grid = TILING.grid(image.height_px, image.width_px, shift_px=shift_px)
        found += detector.inspect_whole(image, grid)[0].scores
    return np.array(found)


def test_images_are_held_out_and_not_tiles(small_preset: None) -> None:
    training = training_of("full")
    assert len(training.held_out_names) == 2
    assert len(training.held_out) == 2 * DRAWING.num
    assert len(training.learned_from) == 14 * DRAWING.num
    images = training.calibration().images
    assert not set(images.group_of) & set(images.held_out)
    assert set(images.groups) <= set(training.learned_names)
    assert training.record().num_images == 16


def test_the_threshold_is_of_scores_of_whole_images(full: Detector) -> None:
    found = full.settings.found
    assert full.settings.tiling == TILING
    assert full.settings.local_statistics.shared
    assert len(found.cross_fitted_scores) == 16
    assert len(found.held_out_scores) == 2
    held_out = [full.inspect_whole(read(name))[0].scores[0] for name in found.held_out]
    # Only the usual surprisal is another: here it is that of all held-out images.
    assert held_out == pytest.approx(found.held_out_scores, abs=0.5)


def test_another_grid_of_tiles_changes_scores_less_than_they_spread(full: Detector) -> None:
    usual = scores_of(full)
    moved = scores_of(full, shift_px=(TILING.tile_px - TILING.overlap_px) // 2)
    spread = np.std(full.settings.found.cross_fitted_scores)
    assert np.abs(moved - usual).mean() < spread


def test_a_defect_across_a_seam_is_one_region(full: Detector) -> None:
    picture = pictures()[NAMES[0]].copy()
    cv2.line(picture, (10, 24), (70, 44), (255, 0, 255), 5)
    found, _ = full.inspect_whole(decode_whole(file_of(picture)))
    assert found.verdicts == ["defect"]
    (anomaly_map,) = found.anomaly_maps
    area_px = full.settings.minimum_map_area_px(anomaly_map.shape, source_px=(SIZE_PX, SIZE_PX))
    assert score(anomaly_map, minimum_area_px=area_px) == found.scores[0]
    regions = full.regions(anomaly_map, source_width_px=SIZE_PX, source_height_px=SIZE_PX)
    assert regions[0].width_px > TILING.tile_px


@pytest.mark.parametrize("form", ["full", "plain"])
def test_saved_and_loaded_it_judges_alike(form: str, full: Detector, tmp_path: Path) -> None:
    detector = full
    if form == "plain":
        training = training_of("plain")
        assert list(training.records())
        detector = training.detector()
        assert len(detector.settings.found.held_out_scores) == 2
    detector.save(str(tmp_path))
    again = Detector.load(str(tmp_path), "fabric")
    assert again.settings == detector.settings
    one, other = (each.inspect_whole(read(NAMES[0]))[0] for each in (detector, again))
    assert one.scores == other.scores
    np.testing.assert_array_equal(one.anomaly_maps[0], other.anomaly_maps[0])
    assert torch.equal(one.codes, other.codes)


def test_tiles_that_are_mapped_from_a_file_are_learned_from_alike(
    small_preset: None, tmp_path: Path
) -> None:
    training = training_of("plain")
    mapped = np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="w+", shape=training.pixels.shape)
    mapped[:] = training.pixels
    other = TiledTraining(NAMES, mapped, training.options, read=read)
    some = torch.tensor([3, 50, 7])
    assert torch.equal(other.learned_from[some], training.learned_from[some])
    assert torch.equal(other.held_out, training.held_out)


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png can't be read any more: no such file"):
        read_whole(f"{tmp_path}/gone.png")
