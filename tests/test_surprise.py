"""What the prior did not expect: bounded, read from both ends, held against the usual, joined."""

import math

import cv2
import numpy as np
import pytest
import torch

from tests.test_detector import detector_of, pictures
from vqad import calibrate, surprise
from vqad.augment import Kind, nth_symmetry
from vqad.detector import Detector
from vqad.resample import ResampleOptions, likelihood_of
from vqad.surprise import LARGEST_DIFFERENCE, joined, readings, usual

ETA = 1e-3
CAP = -math.log(ETA)
NOTHING = np.zeros((64, 64), np.float32)


def cells(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, CAP, shape).astype(np.float32)


def joined_detector(kind: Kind = "rotatable_object", **changes: object) -> Detector:
    size = detector_of().settings.vqvae.latent_size
    usual_surprise = np.full((size, size), 0.5).tolist()
    return detector_of(kind=kind, form="joined", usual_surprise=usual_surprise, **changes)


def test_surprise_is_the_log_of_the_likelihood_up_to_that_of_an_improbable_code() -> None:
    likelihood = torch.tensor([[[1.0, 0.5], [ETA, 0.0]]])
    (found,) = surprise.surprise([likelihood], "object", eta=ETA)
    assert found == pytest.approx(np.array([[0, math.log(2)], [CAP, CAP]]), abs=1e-5)


@pytest.mark.parametrize("kind", ["texture", "rotatable_object"])
def test_what_may_be_turned_is_read_from_both_ends_and_their_mean_lies_upright(kind: Kind) -> None:
    forwards, backwards = torch.rand(2, 3, 4, 4).clamp(min=ETA)
    found = surprise.surprise([forwards, backwards], kind, eta=ETA)
    expected = -(forwards.log() + backwards.flip(-1, -2).log()) / 2
    assert np.stack(found) == pytest.approx(expected.numpy(), abs=1e-5)


def test_an_object_that_may_not_be_turned_is_read_once() -> None:
    assert readings("object") == (0,)
    assert readings("texture") == readings("rotatable_object") == (0, 2)


def test_the_usual_is_one_value_over_a_texture_and_the_same_in_all_turns_of_what_turns() -> None:
    surprises = list(cells(5, 8, 8))
    flat = usual(surprises, "texture")
    assert flat == pytest.approx(np.full((8, 8), np.mean(surprises)), abs=1e-4)
    turning = torch.from_numpy(usual(surprises, "rotatable_object"))
    for n in range(8):
        torch.testing.assert_close(nth_symmetry(turning, n), turning, rtol=0, atol=1e-5)
    fixed = usual(surprises, "object")
    assert fixed == pytest.approx(
        cv2.GaussianBlur(np.mean(surprises, 0), (0, 0), 1.5 / 4, borderType=cv2.BORDER_REFLECT),
        abs=1e-5,
    )
    assert np.ptp(fixed) > 0.1


def test_what_is_usual_leaves_the_difference_alone_and_halved() -> None:
    difference = np.random.default_rng(1).uniform(0, 400, (64, 64)).astype(np.float32)
    found = cells(8, 8)
    np.testing.assert_array_equal(joined(difference, found, found, eta=ETA), difference / 2)
    below = joined(difference, found / 2, found, eta=ETA)
    np.testing.assert_array_equal(below, difference / 2)


def test_the_joined_map_stays_within_the_largest_difference_of_two_colours() -> None:
    most = np.full((64, 64), LARGEST_DIFFERENCE, np.float32)
    all_improbable = np.full((8, 8), CAP, np.float32)
    nothing_usual = np.zeros((8, 8), np.float32)
    top = joined(most, all_improbable, nothing_usual, eta=ETA)
    assert top == pytest.approx(np.full((64, 64), LARGEST_DIFFERENCE), rel=1e-5)
    half = joined(NOTHING, all_improbable, nothing_usual, eta=ETA)
    assert half == pytest.approx(np.full((64, 64), LARGEST_DIFFERENCE / 2), rel=1e-5)


def test_a_surprising_code_shows_where_it_lies() -> None:
    found = np.zeros((16, 16), np.float32)
    found[3, 12] = CAP
    shown = joined(NOTHING, found, np.zeros_like(found), eta=ETA)
    row, col = np.unravel_index(shown.argmax(), shown.shape)
    assert (row // 4, col // 4) == (3, 12)
    assert not shown[:, :24].any()


def test_more_surprise_never_lowers_the_map() -> None:
    found, more = cells(8, 8), cells(8, 8, seed=1)
    expected = cells(8, 8, seed=2) / 4
    lower = joined(NOTHING, np.minimum(found, more), expected, eta=ETA)
    higher = joined(NOTHING, np.maximum(found, more), expected, eta=ETA)
    assert (higher >= lower - 1e-3).all()


def test_a_joined_detector_judges_the_image_and_what_the_prior_says_of_both_readings() -> None:
    detector, images = joined_detector(), pictures()
    found = detector.inspect(images)
    plain = detector.with_settings(form="plain").inspect(images)
    eta = detector.settings.resample.eta
    with torch.no_grad():
        likelihoods = []
        for n in (0, 2):
            codes = detector.vqvae.encode(nth_symmetry(images, n))
            likelihoods.append(likelihood_of(detector.prior(codes), codes))
    both = surprise.surprise(likelihoods, "rotatable_object", eta=eta)
    expected_usual = np.array(detector.settings.usual_surprise, np.float32)
    for joint, difference, each, score in zip(
        found.anomaly_maps, plain.anomaly_maps, both, found.scores, strict=True
    ):
        expected = joined(difference, each, expected_usual, eta=eta)
        assert joint == pytest.approx(expected, abs=1e-2)
        assert score == detector.score_of(joint)
        assert (joint != difference).any()
    assert torch.equal(found.restored_codes, plain.restored_codes)


def test_turning_a_picture_by_half_turns_its_surprise() -> None:
    detector, images = joined_detector(), pictures()
    upright = detector.evidence(images).surprises
    turned = detector.evidence(nth_symmetry(images, 2)).surprises
    assert np.stack(turned) == pytest.approx(np.stack(upright)[:, ::-1, ::-1], abs=1e-3)


def test_held_out_images_are_judged_by_what_is_usual_on_the_others() -> None:
    surprises, differences = list(cells(3, 8, 8)), [NOTHING] * 3
    maps = calibrate.held_out_maps(differences, surprises, "object", eta=ETA)
    for at, found in enumerate(maps):
        others = [each for n, each in enumerate(surprises) if n != at]
        expected = joined(NOTHING, surprises[at], usual(others, "object"), eta=ETA)
        np.testing.assert_array_equal(found, expected)


def test_a_single_held_out_image_is_judged_by_its_own_mean() -> None:
    (one,) = cells(1, 8, 8)
    (found,) = calibrate.held_out_maps([NOTHING], [one], "object", eta=ETA)
    flat = np.full_like(one, one.mean())
    assert found == pytest.approx(joined(NOTHING, one, flat, eta=ETA), abs=1e-4)
    assert found.any()


def test_in_the_plain_form_held_out_maps_are_the_differences() -> None:
    maps = calibrate.held_out_maps([NOTHING, NOTHING + 1], [], "object", eta=ETA)
    assert [float(each.max()) for each in maps] == [0, 1]


def test_a_joined_detector_without_its_usual_surprise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"usual_surprise must be \d+ x \d+ cells, got rows of"):
        detector_of(form="joined")
    with pytest.raises(ValueError, match="eta must be above 0 in the joined form, got 0"):
        joined_detector(resample=ResampleOptions(eta=0.0))
    rows = [[math.nan] * 4] * 4
    size = detector_of().settings.vqvae.latent_size
    assert size == 4
    with pytest.raises(ValueError, match="usual_surprise must be finite"):
        detector_of(form="joined", usual_surprise=rows)
