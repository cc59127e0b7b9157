"""The method with one part taken away: each ablation against a plain reading of what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.random_detectors import detector_of, pictures
from vqad.detection import anomaly_map, score
from vqad.evaluation.ablations import ABLATIONS, LIKELIHOOD, ablated, smallest_threshold
from vqad.model.resample import ResampleOptions, likelihood_of
from vqad.model.resample_reference import raster

DETECTOR = detector_of()
IMAGES = pictures()
PLAIN = DETECTOR.inspect(IMAGES)
FOUND = ablated(DETECTOR, IMAGES)


def decoded(codes: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return DETECTOR.vqvae.decode(codes).movedim(1, -1).numpy()


def test_all_are_there_and_scored_by_the_detector_s_rule() -> None:
    assert tuple(FOUND) == ABLATIONS
    area_px = DETECTOR.settings.minimum_area_px
    for name, looked in FOUND.items():
        assert len(looked.scores) == len(IMAGES)
        if name == LIKELIHOOD:
            assert looked.maps is None
        else:
            assert looked.scores == [
                score.score(each, minimum_area_px=area_px) for each in looked.maps
            ]


def test_residuals_are_of_the_input_and_the_restored_picture() -> None:
    inputs, restored = IMAGES.movedim(1, -1).numpy(), decoded(PLAIN.restored_codes)
    for image, output, found in zip(
        inputs, restored, FOUND["input-output residuals"].maps, strict=True
    ):
        distance = 255 * np.sqrt(((image - output) ** 2).sum(2))
        expected = anomaly_map.smooth(distance.astype(np.float32), input_size_px=16)
        assert found == pytest.approx(expected, abs=1e-2)


def test_without_the_constraint_codes_give_way_whatever_their_neighbours() -> None:
    options = ResampleOptions(eta=DETECTOR.settings.resample.eta, local_constraint=False)
    codes = raster(DETECTOR.prior, PLAIN.codes, options).codes
    assert (codes != PLAIN.codes).sum() > (PLAIN.restored_codes != PLAIN.codes).sum()
    expected = DETECTOR.anomaly_maps(PLAIN.codes, codes)
    assert FOUND["no local constraint"].maps == pytest.approx(np.stack(expected), abs=1e-2)


def test_without_the_filter_the_map_is_the_difference_of_the_decodings() -> None:
    direct, restored = decoded(PLAIN.codes), decoded(PLAIN.restored_codes)
    expected = 255 * np.sqrt(((direct - restored) ** 2).sum(3))
    found = FOUND["no bilateral filter"].maps
    assert found == pytest.approx(expected, abs=1e-2)
    smoothed = [anomaly_map.smooth(each, input_size_px=16) for each in found]
    whole = DETECTOR.anomaly_maps(PLAIN.codes, PLAIN.restored_codes)
    assert np.stack(whole) == pytest.approx(np.stack(smoothed), abs=1e-2)


def test_the_likelihood_is_the_mean_of_all_codes_in_nats() -> None:
    with torch.no_grad():
        likelihood = likelihood_of(DETECTOR.prior(PLAIN.codes), PLAIN.codes)
    expected = -likelihood.double().clamp(min=2**-126).log().flatten(1).mean(1)
    assert FOUND[LIKELIHOOD].scores == pytest.approx(expected.tolist(), rel=1e-4)
    assert smallest_threshold(LIKELIHOOD) == 0
    assert {smallest_threshold(name) for name in ABLATIONS[:3]} == {1.0}


def test_nothing_improbable_leaves_only_the_residuals_of_reconstruction() -> None:
    resample = replace(DETECTOR.settings.resample, eta=0.0)
    found = ablated(DETECTOR.with_settings(resample=resample), IMAGES)
    for name in ("no local constraint", "no bilateral filter"):
        assert not np.any(found[name].maps)
    assert np.all([each.any() for each in found["input-output residuals"].maps])
