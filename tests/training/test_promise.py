"""What a training says of the false alarms to expect."""

from tests.support.random_detectors import detector_of
from vqad.detection.fit_record import FitRecord
from vqad.training.promise import outcome_of, sentence


def test_a_training_says_what_its_images_can_promise() -> None:
    record = FitRecord(held_out_scores=[float(each) for each in range(21)])
    outcome = outcome_of(detector_of(threshold=20.0, found=record).settings)
    assert outcome == {
        "normal_scores": 21,
        "smallest_false_alarm_rate": 0.04545,
        "expected_false_alarm_rate": 0.04545,
        "expected_false_alarms_in_10000": 455,
    }
    assert sentence(outcome) == (
        "about 455 false alarms among 10,000 normal images; with 21 scores of normal images no "
        "rate of false alarms under 4.5 % can be promised; for 0.5 % 199 are needed, or a night's "
        "scores"
    )


def test_with_enough_images_there_is_no_more_to_say() -> None:
    record = FitRecord(held_out_scores=[float(each) for each in range(399)])
    outcome = outcome_of(detector_of(threshold=389.0, found=record).settings)
    assert sentence(outcome) == (
        "about 250 false alarms among 10,000 normal images, by 399 scores of normal images"
    )


def test_a_detector_without_scores_says_nothing() -> None:
    assert outcome_of(detector_of().settings) == {}
    assert sentence({}) == ""
