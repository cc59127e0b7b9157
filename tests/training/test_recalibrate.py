"""A detector is calibrated again on the good images that its fit used."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import (
    PRIOR,
    PRIOR_BUDGET,
    VQVAE_BUDGET,
    drawn_pixels,
    one_thread,
)
from tests.training.test_segmenter import SMALL
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.images import listing
from vqad.training import dataset, holdout, local_statistics
from vqad.training.category import Training
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset
from vqad.training.recalibrate import recalibrate

__all__ = ["one_thread"]  # a fixture, and used by every test here too

NUM_GOOD, NUM_MASKS = 24, 2
OPTIONS = TrainOptions(category="washer", kind="rotatable_object", preset="tiny", eta=0.05)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Data with two pictures that look like masks, and models with the detector of the others."""
    home = tmp_path_factory.mktemp("washers")
    data, models = home / "data", str(home / "models")
    folder = data / "washer" / "train" / "good"
    folder.mkdir(parents=True)
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[4:8, 4:8] = 255
    for number, picture in enumerate([*drawn_pixels(NUM_GOOD), *[mask] * NUM_MASKS]):
        assert cv2.imwrite(str(folder / f"{number:02}.png"), picture)
    found = dataset.read(listing.list_images(str(folder)), size_px=16)
    assert len(found.suspicious) == NUM_MASKS
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset(
            vqvae=CONFIG,
            prior=PRIOR,
            fit_vqvae=VQVAE_BUDGET,
            fit_prior=PRIOR_BUDGET,
            segmenter=SMALL,
            form="joined",
        )
        patch.setitem(PRESETS, "tiny", preset)
        training = Training(found.names, found.pixels, OPTIONS)
        assert list(training.records())
        detector = training.detector()
    record = replace(detector.settings.found, suspicious=found.suspicious)
    detector.with_settings(found=record).save(models)
    return str(data), models


def recalibrated(trained: tuple[str, str]) -> FitRecord:
    data, models = trained
    outcome = recalibrate(data, models, replace(OPTIONS, form="full"), cpus=1, gpus=0.0)
    assert outcome.get("calibrated"), outcome
    return Detector.load(models, "washer").settings.found


def test_a_minimum_area_of_the_image_and_the_scale_stay_until_others_are_given(
    trained: tuple[str, str],
) -> None:
    data, models = trained
    asked = {"form": "plain", "minimum_area_source_px": 9, "px_per_mm": 2.0}
    for options in (asked, {"form": "plain"}):
        assert recalibrate(data, models, replace(OPTIONS, **options), cpus=1, gpus=0.0)[
            "calibrated"
        ]
        settings = Detector.load(models, "washer").settings
        assert (settings.minimum_area_px, settings.px_per_mm) == (9, 2.0)
        assert settings.found.map_pixel_area_px == 1  # the images are as large as the map
        assert settings.found.options["minimum_area_source_px"] == 9
    recalibrate(data, models, replace(OPTIONS, minimum_area_px=4), cpus=1, gpus=0.0)
    settings = Detector.load(models, "washer").settings
    assert (settings.minimum_area_px, settings.px_per_mm) == (4, 2.0)
    assert settings.found.options["minimum_area_source_px"] is None


def test_images_that_the_fit_left_out_as_masks_are_left_out_again(trained: tuple[str, str]) -> None:
    data, models = trained
    settings = Detector.load(models, "washer").settings
    held_out, others = holdout.split(data, settings)
    assert len(held_out) + len(others) == NUM_GOOD
    assert len(recalibrated(trained).cross_fitted_scores) == NUM_GOOD


def test_as_many_held_out_images_as_local_statistics_take_are_enough(
    trained: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_held_out = len(Detector.load(trained[1], "washer").settings.found.held_out)
    monkeypatch.setattr(local_statistics, "MOST_IMAGES", num_held_out)
    found = recalibrated(trained)
    assert len(found.cross_fitted_scores) == len(found.held_out_scores) == num_held_out


def test_what_normal_images_look_like_stays_and_is_measured_where_it_is_missing(
    trained: tuple[str, str],
) -> None:
    detector = Detector.load(trained[1], "washer")
    normal = detector.settings.found.normal
    assert normal is not None
    assert recalibrated(trained).normal == normal
    older = replace(detector.settings.found, normal=None)
    detector.with_settings(found=older).save(trained[1])
    again = recalibrated(trained).normal
    assert again is not None
    assert (again.num_images, again.code_counts) == (normal.num_held_out, normal.code_counts)


def test_the_number_format_stays_until_another_is_asked_for(trained: tuple[str, str]) -> None:
    data, models = trained
    fitted = Detector.load(models, "washer").fitted.prior.state_dict()
    for asked, expected in (("bfloat16", "bfloat16"), (None, "bfloat16"), ("float32", "float32")):
        options = replace(OPTIONS, form="full", precision=asked)
        assert recalibrate(data, models, options, cpus=1, gpus=0.0)["calibrated"]
        detector = Detector.load(models, "washer")
        assert detector.settings.precision == expected
        assert detector.settings.found.options["precision"] == expected
        for name, weights in detector.fitted.prior.state_dict().items():
            assert torch.equal(weights, fitted[name]), name
