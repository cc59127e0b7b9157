"""Whether a product lies in any direction is found from normal images, and a fit obeys it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests import drawn
from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET, one_thread
from tests.training.test_segmenter import SMALL
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images.appearance import appearance
from vqad.images.placement import Geometry, ImageForm
from vqad.images.tensors import to_images, to_tensor
from vqad.storage import models_layout
from vqad.training import alignment
from vqad.training.alignment import AlignedRows, FoundAlignment, aligned_pixels, found_in
from vqad.training.category import Training
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset
from vqad.training.recalibrate import recalibrate

__all__ = ["one_thread"]  # a fixture, and used by every test here too

NUM, SIDE_PX = 40, 64
NAMES = [f"{number:02}.png" for number in range(NUM)]
OPTIONS = TrainOptions(category="screw", preset="tiny", eta=0.05)


@cache
def pictures(category: str) -> np.ndarray:
    rngs = (np.random.default_rng([1, number]) for number in range(NUM))
    return np.stack([drawn.draw(category, size_px=SIDE_PX, rng=rng) for rng in rngs])


@cache
def found(category: str) -> FoundAlignment:
    return found_in(NAMES, pictures(category))


@pytest.mark.parametrize("category", ["screw", "metal_nut"])
def test_products_that_lie_in_any_direction_are_aligned(category: str) -> None:
    assert found(category).alignment is not None
    assert found(category).describe().startswith("each image is turned into one pose: a mean ")


@pytest.mark.parametrize("category", ["bottle", "hazelnut", "pill", "transistor", "washer"])
def test_products_that_stand_and_round_ones_are_not(category: str) -> None:
    assert found(category).alignment is None
    assert found(category).describe().startswith("images are not turned: a mean image leaves 0.")


def test_the_order_of_the_listing_changes_nothing() -> None:
    order = np.random.default_rng(0).permutation(NUM)
    again = found_in([NAMES[at] for at in order], pictures("screw")[order])
    assert torch.equal(again.templates.fine, found("screw").templates.fine)


def test_pixels_of_16_bits_become_the_same_8_bits() -> None:
    templates = found("screw").templates
    some = pictures("screw")[:3]
    expected = aligned_pixels(templates, some)
    assert expected.dtype == np.uint8
    assert np.array_equal(aligned_pixels(templates, some * np.uint16(257)), expected)
    rows = AlignedRows(templates, pictures("screw"))
    assert np.array_equal(rows[np.array([2, 0])], expected[[2, 0]])
    assert rows[:0].shape == (0, SIDE_PX, SIDE_PX, 3)


def sought(options: TrainOptions, source: tuple[int, int] = (64, 64), form: str = "full") -> bool:
    geometry = Geometry(form=ImageForm(size_px=SIDE_PX, resize="pad"))
    placements = geometry.placements(NUM, [source] * NUM)
    return (
        alignment.find_alignment(
            NAMES, pictures("screw"), options, form=form, placements=placements
        )
        is not None
    )


def test_a_pose_is_sought_in_the_form_full_and_not_for_textures_or_padded_images() -> None:
    standing = replace(OPTIONS, kind="object")
    assert sought(standing)
    assert sought(replace(standing, kind="rotatable_object"))
    assert not sought(replace(standing, kind="texture"))
    assert not sought(standing, form="joined")
    assert not sought(standing, source=(64, 32))
    assert not sought(replace(standing, align="never"))
    assert sought(replace(standing, kind="texture", align="always"), form="plain")
    with pytest.raises(ValueError, match="images with padding can't be turned into one pose"):
        sought(replace(standing, align="always"), source=(64, 32))


def test_tiles_and_a_region_refuse_to_be_aligned_at_once() -> None:
    for more in ({"tile_px": 32}, {"roi": "roi.png"}):
        with pytest.raises(ValueError, match="can't be turned into one pose: leave out align"):
            replace(OPTIONS, align="always", **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Training, str, str]]:
    """A training of screws, its data, and models with its detector."""
    home = tmp_path_factory.mktemp("screws")
    folder = home / "data" / "screw" / "train" / "good"
    folder.mkdir(parents=True)
    for name, picture in zip(NAMES, pictures("screw"), strict=True):
        assert cv2.imwrite(str(folder / name), picture[..., ::-1])
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset(
            vqvae=replace(CONFIG, image_size_px=SIDE_PX, latent_size=8),
            prior=replace(PRIOR, latent_size=8),
            fit_vqvae=VQVAE_BUDGET,
            fit_prior=PRIOR_BUDGET,
            segmenter=SMALL,
        )
        patch.setitem(PRESETS, "tiny", preset)
        names = [f"file://{folder}/{name}" for name in NAMES]
        training = Training(names, pictures("screw"), OPTIONS)
        assert list(training.records())
        models = str(home / "models")
        training.detector().save(models)
        yield training, str(home / "data"), models  # calibrated again with the same preset


def test_a_fit_learns_from_aligned_pixels_and_the_detector_aligns(
    trained: tuple[Training, str, str],
) -> None:
    training, _, models = trained
    detector = Detector.load(models, "screw")
    settings = detector.settings
    assert (settings.aligned, settings.kind) == (True, "object")
    assert settings.found.unexplained_aligned is not None
    assert training.alignment is not None
    at = [NAMES.index(name[-6:]) for name in training.held_out_names]
    expected = aligned_pixels(training.alignment, pictures("screw")[at])
    assert np.array_equal(training.held_out.numpy(), expected)
    # Codes of a night are those of the aligned picture, and its look is that of the image.
    batch = to_images(to_tensor(pictures("screw")[at]))
    inspected = detector.inspect(batch)
    direct = detector.vqvae.encode(to_images(to_tensor(expected)))
    assert torch.equal(inspected.codes, direct)
    assert settings.found.normal is not None
    look = appearance(to_images(to_tensor(pictures("screw")))).brightness.mean()
    assert settings.found.normal.brightness.mean == pytest.approx(float(look), rel=1e-6)


def test_a_defect_is_marked_where_it_is_in_the_image(trained: tuple[Training, str, str]) -> None:
    detector = Detector.load(trained[2], "screw")
    for number in range(4):
        picture = pictures("screw")[number].copy()
        picture[26:36, 26:36] = (255, 0, 0)  # near the middle, where every pose has it
        found = detector.inspect(to_images(to_tensor(picture[None])))
        assert found.verdicts == ["defect"]
        row, col = np.unravel_index(found.anomaly_maps[0].argmax(), (SIDE_PX, SIDE_PX))
        assert 20 <= row < 42
        assert 20 <= col < 42


def test_calibrated_again_it_is_aligned_still(trained: tuple[Training, str, str]) -> None:
    _, data, models = trained
    before = Detector.load(models, "screw")
    outcome = recalibrate(data, models, OPTIONS, cpus=1, gpus=0.0, promote=False)
    assert outcome.get("calibrated"), outcome
    after = Detector.load(models, "screw", version=outcome["version"])
    assert after.settings.aligned
    assert after.settings.threshold == pytest.approx(before.settings.threshold, rel=0.01)
    some = to_images(to_tensor(pictures("screw")[:4]))
    assert after.inspect(some).codes.equal(before.inspect(some).codes)


def test_a_detector_without_its_templates_is_refused(
    trained: tuple[Training, str, str], tmp_path: Path
) -> None:
    detector = Detector.load(trained[2], "screw")
    with pytest.raises(ValueError, match="settings and its alignment do not agree"):
        detector.with_settings(aligned=False)
    version = detector.save(str(tmp_path))
    (tmp_path / "screw" / version / models_layout.ALIGNMENT).unlink()
    with pytest.raises(DetectorError, match=re.escape(models_layout.ALIGNMENT)):
        Detector.load(str(tmp_path), "screw")
