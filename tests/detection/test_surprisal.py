"""What the prior did not expect: bounded, read from both ends, held against the usual, joined."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.support.random_detectors import detector_of, pictures
from vqad.array_types import AnomalyMap
from vqad.detection import calibrate, surprisal
from vqad.detection.surprisal import LARGEST_DIFFERENCE, Usual, joined, readings, unknown, usual
from vqad.detector import Detector
from vqad.model.kinds import Kind, nth_symmetry
from vqad.model.resample import ResampleOptions, likelihood_of

ETA = 1e-3
CAP = -math.log(ETA)
NOTHING = np.zeros((64, 64), np.float32)


def cells(*shape: int, seed: int = 0, most: float = 2 * CAP) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, most, shape).astype(np.float32)


def joined_detector(kind: Kind = "rotatable_object", **changes: object) -> Detector:
    rows = [[0.5] * 4] * 4
    expected = Usual(broad=rows, fine=rows, fine_share=0.5)
    return detector_of(**{"kind": kind, "form": "joined", "usual": expected, **changes})


def test_surprise_is_the_log_of_the_likelihood_up_to_twice_that_of_an_improbable_code() -> None:
    likelihood = torch.tensor([[[1.0, 0.5], [ETA, 0.0]]])
    ((found,),) = surprisal.surprisal([likelihood], "object", eta=ETA)
    assert found == pytest.approx(np.array([[0, math.log(2)], [CAP, 2 * CAP]]), abs=1e-5)


@pytest.mark.parametrize("kind", ["texture", "rotatable_object"])
def test_what_may_be_turned_is_read_from_both_ends_and_both_lie_upright(kind: Kind) -> None:
    forwards, backwards = torch.rand(2, 3, 4, 4).clamp(min=ETA)
    found = surprisal.surprisal([forwards, backwards], kind, eta=ETA)
    expected = torch.stack([-forwards.log(), -backwards.log().flip(-1, -2)], 1)
    assert np.stack(found) == pytest.approx(expected.numpy(), abs=1e-5)


def test_an_object_that_may_not_be_turned_is_read_once() -> None:
    assert readings("object") == (0,)
    assert readings("texture") == readings("rotatable_object") == (0, 2)


def test_the_usual_is_one_value_over_a_texture_and_the_same_in_all_turns_of_what_turns() -> None:
    surprisals = list(cells(5, 2, 8, 8))
    flat = usual(surprisals, "texture", eta=ETA)
    assert np.array(flat.fine) == pytest.approx(np.full((8, 8), np.mean(surprisals)), abs=1e-4)
    bounded = np.minimum(surprisals, CAP).mean()
    assert np.array(flat.broad) == pytest.approx(np.full((8, 8), bounded), abs=1e-4)
    turning = torch.tensor(usual(surprisals, "rotatable_object", eta=ETA).fine)
    for n in range(8):
        torch.testing.assert_close(nth_symmetry(turning, n), turning, rtol=0, atol=1e-5)


def test_the_usual_of_an_object_is_the_mean_at_each_cell_smoothed() -> None:
    surprisals = list(cells(5, 1, 8, 8))
    fixed = np.array(usual(surprisals, "object", eta=ETA).fine)
    mean = np.mean(surprisals, (0, 1))
    expected = cv2.GaussianBlur(mean, (0, 0), 1.5 / 4, borderType=cv2.BORDER_REFLECT)
    assert fixed == pytest.approx(expected, abs=1e-5)
    assert np.ptp(fixed) > 0.1


def test_what_is_usual_leaves_half_of_the_difference() -> None:
    difference = np.random.default_rng(1).uniform(0, 400, (64, 64)).astype(np.float32)
    found = cells(1, 8, 8, most=CAP)
    expected = Usual(broad=found[0].tolist(), fine=found[0].tolist())
    np.testing.assert_array_equal(joined(difference, found, expected, eta=ETA), difference / 2)
    below = joined(difference, found / 2, expected, eta=ETA)
    np.testing.assert_array_equal(below, difference / 2)


def test_the_joined_map_stays_within_the_largest_difference_of_two_colours() -> None:
    most = np.full((64, 64), LARGEST_DIFFERENCE, np.float32)
    twice_improbable = np.full((1, 8, 8), 2 * CAP, np.float32)
    top = joined(most, twice_improbable, unknown(8), eta=ETA)
    assert top == pytest.approx(most, rel=1e-5)
    improbable = np.full((1, 8, 8), CAP, np.float32)
    half = joined(NOTHING, improbable, unknown(8), eta=ETA)
    assert half == pytest.approx(most / 2, rel=1e-5)


def test_both_looks_are_means_over_the_readings_each_bounded_on_its_own() -> None:
    forwards, backwards = cells(2, 8, 8)
    both = np.stack([forwards, backwards])
    bounded = np.minimum(both, CAP).mean(0, keepdims=True)
    broad = surprisal.broad_map(NOTHING, both, unknown(8), eta=ETA)
    assert broad == pytest.approx(surprisal.broad_map(NOTHING, bounded, unknown(8), eta=ETA))
    fine = surprisal.fine_map(both, unknown(8), eta=ETA, size_px=64)
    mean = both.mean(0, keepdims=True)
    assert fine == pytest.approx(surprisal.fine_map(mean, unknown(8), eta=ETA, size_px=64))


def test_the_joined_map_is_the_larger_of_both_looks_the_fine_one_by_its_share() -> None:
    difference = np.random.default_rng(1).uniform(0, 200, (64, 64)).astype(np.float32)
    found, expected = cells(2, 8, 8), replace(unknown(8), fine_share=0.25)
    broad = surprisal.broad_map(difference, found, expected, eta=ETA)
    fine = surprisal.fine_map(found, expected, eta=ETA, size_px=64)
    shown = joined(difference, found, expected, eta=ETA)
    np.testing.assert_array_equal(shown, np.maximum(broad, fine * np.float32(0.25)))


def test_a_surprising_code_shows_where_it_lies() -> None:
    found = np.zeros((1, 16, 16), np.float32)
    found[0, 3, 12] = CAP
    shown = joined(NOTHING, found, unknown(16), eta=ETA)
    row, col = np.unravel_index(shown.argmax(), shown.shape)
    assert (row // 4, col // 4) == (3, 12)
    assert not shown[:, :24].any()


def test_more_surprise_never_lowers_the_map() -> None:
    found, more = cells(1, 8, 8), cells(1, 8, 8, seed=1)
    rows = (cells(8, 8, seed=2) / 4).tolist()
    expected = Usual(broad=rows, fine=rows)
    lower = joined(NOTHING, np.minimum(found, more), expected, eta=ETA)
    higher = joined(NOTHING, np.maximum(found, more), expected, eta=ETA)
    assert (higher >= lower - 1e-3).all()


def test_a_joined_detector_judges_the_image_and_what_the_prior_says_of_both_readings() -> None:
    detector, images = joined_detector(), pictures()
    found = detector.inspect(images)
    plain = detector.with_settings(form="plain")
    scores, maps = detector.judged(detector.evidence(images), [])
    eta = detector.settings.resample.eta
    with torch.no_grad():
        likelihoods = []
        for n in (0, 2):
            codes = detector.vqvae.encode(nth_symmetry(images, n))
            likelihoods.append(likelihood_of(detector.prior(codes), codes))
    both = surprisal.surprisal(likelihoods, "rotatable_object", eta=eta)
    differences = plain.evidence(images).differences
    for joint, difference, each, score in zip(maps, differences, both, scores, strict=True):
        expected = joined(difference, each, detector.settings.usual, eta=eta)
        assert joint == pytest.approx(expected, abs=1e-2)
        assert score == detector.score_of(joint)
        assert (joint != difference).any()
    assert found.scores == scores
    assert torch.equal(found.restored_codes, plain.inspect(images).restored_codes)


def test_without_the_turned_reading_the_surprisal_is_that_of_the_first() -> None:
    detector, images = joined_detector(), pictures()
    both = detector.evidence(images).surprisals
    once = detector.with_settings(turned_reading=False).evidence(images).surprisals
    assert [each.shape[0] for each in (*both[:1], *once[:1])] == [2, 1]
    for one, two in zip(once, both, strict=True):
        np.testing.assert_array_equal(one[0], two[0])


def test_turning_a_picture_by_half_turns_its_surprise() -> None:
    detector, images = joined_detector(), pictures()
    upright = detector.evidence(images).surprisals
    turned = detector.evidence(nth_symmetry(images, 2)).surprisals
    assert np.stack(turned) == pytest.approx(np.stack(upright)[:, ::-1, ::-1, ::-1], abs=1e-3)


def peak(anomaly_map: AnomalyMap) -> float:
    return float(anomaly_map.max())


def test_held_out_images_are_judged_by_what_is_usual_on_the_others() -> None:
    surprisals, differences = list(cells(3, 1, 8, 8)), [NOTHING] * 3
    found, maps = calibrate.usual_of(differences, surprisals, "object", eta=ETA, score=peak)
    everyone = usual(surprisals, "object", eta=ETA)
    assert found == replace(everyone, fine_share=found.fine_share)
    for at, each in enumerate(maps):
        others = usual([one for n, one in enumerate(surprisals) if n != at], "object", eta=ETA)
        expected = replace(others, fine_share=found.fine_share)
        np.testing.assert_array_equal(each, joined(NOTHING, surprisals[at], expected, eta=ETA))


def test_the_fine_look_s_largest_score_on_held_out_images_is_the_broad_one_s() -> None:
    surprisals = list(cells(4, 1, 8, 8))
    found, maps = calibrate.usual_of([NOTHING] * 4, surprisals, "texture", eta=ETA, score=peak)
    assert 0 < found.fine_share < 1
    others = [
        usual([one for n, one in enumerate(surprisals) if n != at], "texture", eta=ETA)
        for at in range(4)
    ]
    broad = [
        peak(surprisal.broad_map(NOTHING, one, rest, eta=ETA))
        for one, rest in zip(surprisals, others, strict=True)
    ]
    assert max(map(peak, maps)) == pytest.approx(max(broad), rel=1e-5)


def test_a_single_held_out_image_is_judged_by_its_own_mean() -> None:
    (one,) = cells(1, 1, 8, 8)
    _, (found,) = calibrate.usual_of([NOTHING], [one], "object", eta=ETA, score=peak)
    assert found.any()


def test_a_joined_detector_without_what_is_usual_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the joined form needs the usual surprisal of normal images"
    ):
        detector_of(form="joined")
    with pytest.raises(ValueError, match="eta must be above 0 in the joined form, got 0"):
        joined_detector(resample=ResampleOptions(eta=0.0))
    with pytest.raises(ValueError, match="usual must have 4 rows of cells, got 5"):
        joined_detector(usual=unknown(5))


def test_nonsense_for_the_usual_is_refused_by_name() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match=r"fine_share must be in \(0, 1\], got 1.5"):
        Usual(broad=rows, fine=rows, fine_share=1.5)
    for wrong in ([[1.0, math.nan]] * 2, [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="usual fine must be as many rows as columns"):
            Usual(broad=rows, fine=wrong)
