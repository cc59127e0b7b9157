"""A broken or absurd detector is refused, and never calls an image normal."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.support.random_detectors import (
    assert_refused,
    detector_of,
    pictures,
    replace_weights,
    rewrite,
)
from vqad.detection.surprisal import LARGEST_DIFFERENCE, Usual
from vqad.detection.weights import DetectorError
from vqad.detector import Detector


def joined(value: float = 1.0, **changes: Any) -> Detector:
    """A detector of the joined form, with this surprisal as the usual one of every cell."""
    usual = Usual(broad=[[value] * 4] * 4, fine=[[value] * 4] * 4)
    return detector_of(form="joined", usual=usual, **changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["vqvae.safetensors", "prior.safetensors"])
def test_weights_that_are_not_finite_are_refused_though_the_hash_is_right(
    models: str, saved: Path, name: str, value: float
) -> None:
    weights = safetensors.torch.load((saved / name).read_bytes())
    changed = max(weights, key=lambda each: weights[each].numel())
    weights[changed].view(-1)[5] = value
    replace_weights(saved, name, safetensors.torch.save(weights), recorded=True)
    number = weights[changed].numel()
    message = f"{saved}/{name}: the weights {changed} are not finite at 1 of {number} places"
    assert_refused(models, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1e308}, "threshold must be in [0, 441.7), the grey levels of a score, got"),
        ({"threshold": LARGEST_DIFFERENCE}, "threshold must be in [0, 441.7)"),
        ({"minimum_area_px": 10**30}, "minimum_area_px must be in [1, 256], the pixels of the"),
        ({"minimum_area_px": 257}, "minimum_area_px must be in [1, 256]"),
    ],
)
def test_bounds_that_no_score_can_exceed_are_refused(
    models: str, saved: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(saved, lambda record: record["settings"].update(changes))
    assert_refused(models, message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "has preprocessing of version None, this program knows 1 to "),
        ({"version": 99}, "has preprocessing of version 99, this program knows 1 to "),
        ({"version": "1"}, "has preprocessing of version 1, this program knows 1 to "),
        ({"version": 0}, "has preprocessing of version 0, this program knows 1 to "),
    ],
)
def test_unknown_preprocessing_is_refused(
    models: str, saved: Path, value: dict[str, Any], message: str
) -> None:
    rewrite(saved, lambda record: record["settings"].update(preprocessing=value))
    assert_refused(models, message)


@pytest.mark.parametrize("eta", [0.0, 1e-30])
def test_an_eta_under_which_nothing_is_improbable_is_refused(
    models: str, saved: Path, eta: float
) -> None:
    rewrite(saved, lambda record: record["settings"]["resample"].update(eta=eta))
    assert_refused(models, "with it no image would be defective; train again")


@pytest.mark.parametrize("value", [1e300, 9.0, -1e300, -1.0])
@pytest.mark.parametrize("name", ["broad", "fine"])
def test_a_usual_surprisal_beyond_its_bounds_is_refused(
    models: str, name: str, value: float
) -> None:
    folder = Path(models, "washer", joined().save(models))
    rewrite(folder, lambda record: record["settings"]["usual"][name][2].__setitem__(1, value))
    assert_refused(models, f"usual {name} must be in [0, ")


def test_the_detectors_of_these_tests_are_loaded_if_nothing_is_changed(models: str) -> None:
    for each in (detector_of(), joined(), joined(0.0)):
        version = each.save(models)
        assert Detector.load(models, "washer").version == version
        assert "joined" in json.dumps(each.settings.form) or each.settings.usual is None


def broken(detector: Detector, name: str, value: float) -> Detector:
    """The detector with one weight of a network changed in memory, after the checks of loading."""
    detector.version = "v1"
    weights = {**dict(detector.vqvae.named_parameters()), **dict(detector.prior.named_parameters())}
    with torch.no_grad():
        weights[name][(0,) * weights[name].ndim] = value
    return detector


@pytest.mark.parametrize("form", ["plain", "joined"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("encoder.0.weight", "the latents of the encoder"),
        ("decoder.0.weight", "the decodings"),
        ("embedding.weight", "the likelihoods of the codes"),
        ("output.3.weight", "the likelihoods of the codes"),
    ],
)
def test_an_image_is_never_judged_by_numbers_that_are_not_finite(
    form: str, name: str, values: str, value: float
) -> None:
    washer = broken(joined() if form == "joined" else detector_of(), name, value)
    message = rf"^the washer detector, version v1, cannot judge: {values} are not finite at \d+ of "
    with pytest.raises(DetectorError, match=message):
        washer.inspect(pictures())


def test_logits_that_break_while_resampling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    washer = detector_of()
    resume = washer.incremental_prior.resume
    monkeypatch.setattr(
        washer.incremental_prior, "resume", lambda *arguments: resume(*arguments) * torch.nan
    )
    with pytest.raises(DetectorError, match=r"cannot judge: the logits of the prior are not finit"):
        washer.inspect(pictures())
