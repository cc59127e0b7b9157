"""From normal pictures to a detector, stopped and taken up on the way or not."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

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
    stored_and_loaded,
)
from vqad.detection import calibrate
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor
from vqad.training import category, eta_search, holdout, near_copies
from vqad.training.category import Training
from vqad.training.full_form import NormalImages
from vqad.training.loop import CollapseError, FitOptions
from vqad.training.networks import encode
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset, preset_of

__all__ = ["one_thread"]  # a fixture, and used by every test here too

NAMES = [f"file:///washers/{number:02}.png" for number in range(24)]
PIXELS = drawn_pixels(24)
OPTIONS = {"category": "washer", "kind": "rotatable_object", "preset": "tiny"}


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    # Most tests here are of the networks and of what both older forms share.
    preset = Preset(
        vqvae=CONFIG,
        prior=PRIOR,
        fit_vqvae=VQVAE_BUDGET,
        fit_prior=PRIOR_BUDGET,
        form="joined",
    )
    monkeypatch.setitem(PRESETS, "tiny", preset)


def training_of(**changes) -> Training:
    return Training(NAMES, PIXELS, TrainOptions(**{**OPTIONS, **changes}))


def trained(**changes) -> Training:
    training = training_of(**changes)
    assert [record.stage for record in training.records()] == ["vqvae"] * 4 + ["prior"] * 4
    return training


def test_drawn_pictures_become_a_detector_that_judges_storable(tmp_path: Path) -> None:
    training = trained(seed=5, form="plain")
    washer = training.detector()
    settings, found = washer.settings, washer.settings.found
    assert (settings.category, settings.kind) == ("washer", "rotatable_object")
    assert settings.minimum_area_px == CONFIG.cell_area_px == 16
    assert settings.resample.eta == 5e-4
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
    held_out = holdout.hold_out(NAMES, seed=5)
    assert found.held_out == [NAMES[at] for at in held_out]
    assert found.eta_found_by == "given"
    assert found.steps == {"vqvae": 40, "prior": 40}
    assert found.options == asdict(training.options)
    assert found.num_images == 24
    assert found.codes_used == training.codes_used > 1
    images = to_images(to_tensor(PIXELS))
    assert found.held_out_scores == washer.inspect(images[held_out]).scores
    assert settings.threshold == max(1.0, *found.held_out_scores)
    washer.save(str(tmp_path))
    again = Detector.load(str(tmp_path), "washer")
    assert again.settings == settings
    assert again.inspect(images).scores == washer.inspect(images).scores


def test_the_record_says_what_the_normal_images_look_like() -> None:
    training = trained(seed=5, form="plain")
    found = training.detector().settings.found
    assert found.normal is not None
    assert (found.normal.num_images, found.normal.num_held_out) == (24, len(found.held_out))
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])
    assert found.normal.brightness.mean == pytest.approx(luma.mean(), rel=1e-4)
    counts = np.bincount(
        encode(training.vqvae, training.held_out).numpy().ravel(), minlength=CONFIG.num_codes
    )
    assert found.normal.code_counts == counts.tolist()


def test_a_kind_that_is_not_given_is_found_recorded_and_used() -> None:
    given, found = trained(seed=5), trained(seed=5, kind=None)
    assert (given.found_kind, given.record().kind_found_by) == (None, "given")
    assert found.found_kind == training_of(seed=5, kind=None).found_kind is not None
    record = found.record()
    assert (record.kind_found_by, record.options["kind"]) == ("normal images", "rotatable_object")
    assert found.detector().settings.kind == "rotatable_object"
    # The kind is the one that was given to the other, and so are all weights.
    for name, weights in found.vqvae.state_dict().items():
        assert torch.equal(weights, given.vqvae.state_dict()[name]), name


def test_the_joined_form_is_calibrated_on_what_held_out_images_say_of_each_other() -> None:
    training = trained(seed=5, form="joined")
    washer = training.detector()
    assert washer.settings.form == "joined"
    images = to_images(training.held_out)
    evidence = washer.evidence(images)
    expected, maps = calibrate.usual_of(
        evidence.differences,
        evidence.surprisals,
        "rotatable_object",
        eta=5e-4,
        score=washer.score_of,
    )
    assert np.array(washer.settings.usual.broad) == pytest.approx(
        np.array(expected.broad), abs=1e-4
    )
    assert washer.settings.usual.fine_share == pytest.approx(expected.fine_share, abs=1e-4)
    scores = [washer.score_of(each) for each in maps]
    assert washer.settings.found.held_out_scores == pytest.approx(scores, abs=1e-2)
    assert washer.settings.threshold == pytest.approx(max(1.0, *scores), abs=1e-2)


def test_no_held_out_image_is_called_defective_at_the_threshold() -> None:
    training = trained(eta=0.3)
    washer = training.detector()
    found = washer.settings.found
    assert found.held_out_maps_not_zero > 0
    verdicts = washer.inspect(to_images(training.held_out)).verdicts
    assert verdicts == ["normal"] * len(training.held_out)


def test_held_out_images_are_not_learned_from() -> None:
    training = training_of()
    learned = {each.numpy().tobytes() for each in training.learned_from}
    held_out = {each.numpy().tobytes() for each in training.held_out}
    assert (len(learned), len(held_out)) == (22, 2)
    assert not learned & held_out
    every = {each.tobytes() for each in PIXELS}
    assert learned | held_out == every


def test_what_held_out_images_show_changes_no_weight_of_the_vqvae() -> None:
    training = training_of()
    pixels = PIXELS.copy()
    for name in training.held_out_names:
        pixels[NAMES.index(name)] = 255 - pixels[NAMES.index(name)]
    other = Training(NAMES, pixels, TrainOptions(**OPTIONS))
    for each in (training, other):
        list(each.records())
    theirs = other.vqvae.state_dict()
    for name, tensor in training.vqvae.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_the_order_of_the_listing_decides_nothing_about_who_is_held_out() -> None:
    order = np.random.default_rng(0).permutation(24)
    shuffled = Training([NAMES[at] for at in order], PIXELS[order], TrainOptions(**OPTIONS))
    assert set(shuffled.held_out_names) == set(training_of().held_out_names)


def test_groups_stay_on_one_side() -> None:
    training = training_of(heldout_group=r"/(\d)\d\.png")
    assert {name[-6] for name in training.held_out_names} in ({"0"}, {"1"}, {"2"})


@pytest.mark.parametrize("num_records", [2, 4, 6])
def test_stopped_and_taken_up_again_it_ends_in_the_same_detector(num_records: int) -> None:
    undisturbed = trained()
    stopped = training_of()
    records = stopped.records()
    for _ in range(num_records):
        next(records)
    state = stored_and_loaded(stopped.state())
    again = training_of()
    again.load(state)
    assert len(list(again.records())) == 8 - num_records
    for stage in ("vqvae", "prior"):
        theirs = getattr(undisturbed, stage).state_dict()
        for name, tensor in getattr(again, stage).state_dict().items():
            assert torch.equal(tensor, theirs[name]), name
    assert again.detector().settings == undisturbed.detector().settings


def test_eta_is_found_on_painted_rectangles_when_asked_for() -> None:
    settings = trained(eta="auto").detector().settings
    assert settings.resample.eta in eta_search.ETA_GRID
    assert settings.found.eta_found_by == "painted rectangles"
    assert 0 <= settings.found.eta_pixel_auroc <= 1
    assert json.loads(json.dumps(asdict(settings.found))) == asdict(settings.found)


def test_a_quantile_lowers_the_threshold_and_a_minimum_area_is_kept() -> None:
    training = trained(eta=0.3, threshold_quantile=0.5, minimum_area_px=7)
    # So that differences of a network this small come to more than the least threshold.
    with torch.no_grad():
        training.vqvae.decoder[-1].weight.mul_(100)
    settings = training.detector().settings
    assert settings.minimum_area_px == 7
    expected = calibrate.threshold(settings.found.held_out_scores, quantile=0.5)
    assert settings.threshold == expected < max(settings.found.held_out_scores)


def test_few_held_out_images_are_warned_of_and_enough_are_not() -> None:
    (warning,) = training_of().warnings()
    assert warning.startswith("washer: only 2 held-out images set the threshold; at least 10")
    names = [f"{number}.png" for number in range(100)]
    pixels = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3)).astype(np.uint8)
    assert Training(names, pixels, TrainOptions(**OPTIONS)).warnings() == []


def test_copies_stay_together_are_warned_of_and_recorded() -> None:
    pixels = PIXELS.copy()
    pixels[8:24] = pixels[8]
    training = Training(NAMES, pixels, TrainOptions(**OPTIONS))
    copies, few = training.warnings()
    assert copies.startswith("washer: 15 images are copies of others, equal or nearly; they stay")
    assert "held-out images set the threshold" in few
    assert training.record().num_copies == 15
    held_out = set(training.held_out_names)
    assert held_out.isdisjoint(NAMES[8:]) or held_out.issuperset(NAMES[8:])


def test_copies_that_the_training_found_are_not_searched_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = PIXELS.copy()
    pixels[20] = pixels[4]
    training = Training(NAMES, pixels, TrainOptions(**OPTIONS, form="full"))
    seen: list[NormalImages] = []

    def calibration(*, normal: NormalImages, **_: object) -> None:
        seen.append(normal)
        raise InterruptedError

    monkeypatch.setattr(category, "Calibration", calibration)
    monkeypatch.setattr(near_copies, "copies", None)  # a call of it would fail
    with pytest.raises(InterruptedError):
        training.detector()
    (normal,) = seen
    assert [[normal.names[at] for at in group] for group in normal.copies] == [
        [NAMES[4], NAMES[20]]
    ]
    one, other = normal.pixels[normal.copies[0]]
    assert torch.equal(one, other)


def test_a_codebook_that_collapses_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = replace(CONFIG, num_codes=64, codebook="gradient")
    budget = FitOptions(num_steps=1, batch_size=2)
    preset = Preset(
        vqvae=wide,
        prior=replace(PRIOR, num_codes=64),
        fit_vqvae=budget,
        fit_prior=budget,
    )
    monkeypatch.setitem(PRESETS, "tiny", preset)
    with pytest.raises(CollapseError, match=r"the codebook collapsed: \d of 64 codes in use over"):
        list(training_of().records())


def test_sixteen_bit_pictures_train_as_well() -> None:
    training = Training(NAMES, PIXELS * np.uint16(257), TrainOptions(**OPTIONS))
    assert len(list(training.records())) == 8
    images = to_images(to_tensor(PIXELS[:4]))
    assert len(training.detector().inspect(images).scores) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_area_px": 0}, "minimum_area_px must be at least 1, got 0"),
        ({"eta": 1.5}, "eta must be in [0, 1), got 1.5"),
        ({"eta": 0.0}, "eta must be at least 1.1e-19, got 0: with a smaller one no image would be"),
        ({"threshold_quantile": 0.0}, "threshold_quantile must be in (0, 1], got 0.0"),
        ({"seed": -1}, "seed must be in [0, 4294967296), got -1"),
        ({"heldout_group": "part"}, "heldout_group needs a group that names what stays together"),
    ],
)
def test_options_that_cannot_be_fitted_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainOptions(**{**OPTIONS, **change})


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="preset must be one of paper, laptop, tiny, got huge"):
        preset_of("huge")


def test_a_single_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="1 images to learn from: at least 10 are needed"):
        Training(NAMES[:1], PIXELS[:1], TrainOptions(**OPTIONS))
