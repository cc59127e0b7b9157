"""The speed of inspecting is measured on images as the detector takes them, by stages."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vqad.benchmarks.inspection import random_detector, read_images, stages
from vqad.detection.area_score import UNIT, AreaRule, usual_areas
from vqad.detection.local_features import FeatureOptions
from vqad.detection.local_residuals import num_channels
from vqad.detection.local_statistics import features_of, fit
from vqad.detection.surprisal import unknown
from vqad.detection.witnesses import Witness, weights
from vqad.detector import Detector
from vqad.images import listing
from vqad.model.segmenter import Segmenter, SegmenterConfig

PICTURES = np.random.default_rng(0).random((4, 64, 64, 3), dtype=np.float32)


def in_full_form() -> Detector:
    plain = random_detector("tiny")
    options = FeatureOptions(image_size_px=64)
    statistics = fit(features_of(PICTURES, options), options, seed=0)
    segmenter = Segmenter(SegmenterConfig(num_channels=num_channels(options)))
    settings = plain.with_settings(
        usual=unknown(plain.settings.vqvae.latent_size), unit=UNIT
    ).settings
    full = {
        "form": "full",
        "witnesses": tuple(
            Witness(name=name, weight=weight, mean=0.0, deviation=1.0, largest=1.0)
            for name, weight in weights(with_segmenter=True).items()
        ),
        "local_statistics": statistics.config,
        "segmenter": segmenter.config,
        "area_rule": AreaRule(usual=usual_areas([PICTURES[0, :32, :32, 0]]), scale=1.0),
        "turned_reading": False,
    }
    return Detector(
        plain.vqvae,
        plain.prior,
        replace(settings, **full),
        local_statistics=statistics,
        segmenter=segmenter,
    )


@pytest.mark.parametrize(("bits", "value"), [(12, 4095), (16, 65535)])
def test_values_of_16_bit_files_have_the_detector_s_bits(
    tmp_path: Path, bits: int, value: int
) -> None:
    assert cv2.imwrite(str(tmp_path / "white.png"), np.full((64, 64, 3), value, np.uint16))
    detector = random_detector("tiny").with_settings(bits=bits)
    images = read_images(detector, listing.list_images(str(tmp_path)))
    assert images.unique().tolist() == [1.0]


def test_the_form_full_has_stages_of_its_own(tmp_path: Path) -> None:
    for at, picture in enumerate(PICTURES):
        assert cv2.imwrite(str(tmp_path / f"{at}.png"), (picture * 255).round())
    listed = listing.list_images(str(tmp_path))
    seconds, flops = stages(in_full_form(), listed, batch_size=2)
    assert set(seconds) == {
        *("fetch", "decode", "encode", "prior, one pass", "resample", "surprisal"),
        *("decode pair", "filter", "local features", "local distances", "segmenter", "score"),
    }
    assert min(seconds.values()) > 0
    assert flops > 0
