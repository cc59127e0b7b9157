"""A detector computes in the number format it was calibrated in, wherever it runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.random_detectors import (
    assert_equal_bits,
    assert_refused,
    detector_of,
    pictures,
    rewrite,
)
from vqad.detector import Detector
from vqad.model import bfloat16

# Of scores by instructions for bfloat16 and by float32 kernels; vqad/README.md has what was
# measured on 292 images.
TOLERANCE = 2e-3


def test_a_detector_in_bfloat16_is_the_same_one_after_loading(models: str) -> None:
    before = detector_of(precision="bfloat16")
    before.save(models)
    after = Detector.load(models, "washer")
    assert after.settings.precision == "bfloat16"
    assert_equal_bits(before.inspect(pictures()), after.inspect(pictures()))
    assert_equal_bits(before.inspect(pictures()), after.to("cpu").inspect(pictures()))


def test_weights_are_saved_as_they_were_fitted(models: str) -> None:
    fitted = detector_of()
    fitted.with_settings(precision="bfloat16").save(models)
    loaded = Detector.load(models, "washer")
    for ours, theirs in (
        (loaded.fitted.vqvae, fitted.vqvae),
        (loaded.fitted.prior, fitted.prior),
    ):
        for name, weights in theirs.state_dict().items():
            assert torch.equal(weights, ours.state_dict()[name]), name
    again = loaded.with_settings(precision="float32")
    assert_equal_bits(again.inspect(pictures()), fitted.inspect(pictures()))


def test_a_detector_of_an_older_program_computes_in_float32(models: str, saved: Path) -> None:
    before = Detector.load(models, "washer").inspect(pictures())

    def make_older(record: dict) -> None:
        record["format_version"] = 6
        del record["settings"]["precision"]

    rewrite(saved, make_older)
    detector = Detector.load(models, "washer")
    assert detector.settings.precision == "float32"
    assert_equal_bits(before, detector.inspect(pictures()))


def test_another_number_format_is_refused_by_name(models: str, saved: Path) -> None:
    rewrite(saved, lambda record: record["settings"].update(precision="float8"))
    assert_refused(models, "detector.json, precision: Input should be 'float32' or 'bfloat16'")


def test_both_formats_find_about_the_same() -> None:
    washer = detector_of()
    one, other = (
        washer.inspect(pictures()),
        washer.with_settings(precision="bfloat16").inspect(pictures()),
    )
    assert one.scores != other.scores
    assert float((one.codes != other.codes).float().mean()) < 0.1


def test_a_machine_without_instructions_gives_the_same_results_within_the_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = detector_of(precision="bfloat16").inspect(pictures())
    monkeypatch.setattr(bfloat16, "has_instructions", lambda device: False)
    there = detector_of(precision="bfloat16").inspect(pictures())
    assert float((here.codes != there.codes).float().mean()) < 0.01
    same = [at for at in range(8) if torch.equal(here.codes[at], there.codes[at])]
    assert len(same) >= 6
    same = [at for at in same if torch.equal(here.restored_codes[at], there.restored_codes[at])]
    scores = np.array([here.scores, there.scores])[:, same]
    np.testing.assert_allclose(scores[0], scores[1], rtol=TOLERANCE)
