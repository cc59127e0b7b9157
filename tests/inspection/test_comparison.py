"""A night beside earlier nights and its detectors: what is warned of, and what is not compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.simulated_nights import Product
from vqad.detection.fit_record import FitRecord
from vqad.inspection.comparison import Comparison, compare
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.night_warnings import of_limits

VERSION = "20260101T000000Z-0"


def pills(seed: int = 0) -> Product:
    return Product(rng=np.random.default_rng(seed), spread=0.005)


def record(night: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {"run": "r", "statistics": {"pill": night}, "model_versions": {"pill": VERSION}}
    return found | changes


def compared(
    night: dict[str, Any], earlier: Sequence[dict[str, Any]], training: FitRecord | None = None
) -> Comparison:
    trainings = {"pill": training} if training else {}
    return compare({"pill": night}, {"pill": VERSION}, list(earlier), trainings)


def warned(night: dict[str, Any]) -> dict[str, Any]:
    """The record of a night that was warned of beside the nights before it."""
    warning = {"code": "brightness", "category": "pill", "compared_with": ["earlier nights"]}
    return record(night, warnings=[warning])


def test_a_warning_says_what_was_found_and_what_was_expected() -> None:
    product = pills()
    training, nights = product.training(), [record(product.night(100)) for _ in range(7)]
    found = compared(product.night(100, light=0.8), nights, training)
    one = next(each for each in found.warnings if each.code == "brightness")
    assert one.category == "pill"
    assert one.message.startswith("pill: brightness is 8")
    assert " expected from " in one.message
    assert one.message.endswith((" by the last 7 nights", " by the training images"))
    assert set(one.compared_with) == {"earlier nights", "training images"}
    low, high = one.expected
    assert one.value < low < 100 < high
    assert one.record()["expected"] == [round(low, 6), round(high, 6)]
    ranges = found.expected()["pill"]["brightness"]
    assert ranges.keys() == {"value", "earlier nights", "training images"}
    assert ranges["value"] == round(one.value, 6)


def test_an_unusual_night_is_no_measure_for_the_next_ones() -> None:
    product = pills()
    usual = [record(product.night(100)) for _ in range(6)]
    dim = warned(product.night(100, light=0.8))
    assert not compared(product.night(100), [dim, *usual]).warnings
    again = compared(product.night(100, light=0.8), [dim, *usual])
    assert {"brightness"} <= {each.code for each in again.warnings}


def test_what_stays_changed_is_usual_after_a_week_and_the_nights_of_a_comparison() -> None:
    product = pills()
    history = [record(product.night(100)) for _ in range(7)]
    warnings = []
    for _ in range(16):
        night = product.night(100, light=0.8)
        found = compared(night, history[:7])
        warnings.append(bool(found.warnings))
        history.insert(0, record(night, warnings=[each.record() for each in found.warnings]))
    # Five nights leave two usual ones in the history of seven, too few to compare with.
    assert warnings == [True] * 5 + [False] * 11


def test_nights_of_another_detector_are_not_compared() -> None:
    product = pills()
    nights = [record(product.night(100), model_versions={"pill": "other"}) for _ in range(7)]
    found = compared(product.night(100, light=0.8), nights)
    assert found.warnings == []
    assert found.not_compared == {"pill": "0 earlier nights that are comparable, fewer than 3"}
    assert found.note() == (
        "not compared with other nights: pill (0 earlier nights that are comparable, fewer than 3)"
    )


def test_without_any_earlier_night_the_training_alone_is_compared_and_that_is_said() -> None:
    product = pills()
    found = compared(product.night(100, light=0.8), [], product.training())
    assert [each.code for each in found.warnings][:1] == ["brightness"]
    assert found.warnings[0].message.endswith("by the training images")
    expected = "no earlier night of these products: nothing was compared with other nights"
    assert found.note() == expected
    assert compare({}, {}, [], {}).note() == ""  # nothing was inspected


def test_images_without_a_detector_are_not_compared() -> None:
    statistics = {"_unknown": {"images": 100, "rejects": 100, "defects": 0}}
    assert compare(statistics, {}, [], {}) == Comparison()


def test_a_share_beyond_a_limit_of_the_options_is_a_warning_of_the_whole_night() -> None:
    limits = Monitoring(max_reject_fraction=0.05, max_defect_fraction=0.2)
    assert not list(of_limits(limits, images=100, rejects=5, defects=20))
    assert not list(of_limits(limits, images=0, rejects=0, defects=0))
    assert not list(of_limits(Monitoring(), images=100, rejects=0, defects=100))
    one, two = of_limits(limits, images=100, rejects=6, defects=21)
    assert one.record() == {
        "code": "max_reject_fraction",
        "category": "",
        "message": "6 of 100 images were rejected, more than --max-reject-fraction 0.05",
        "value": 0.06,
        "expected": [0.0, 0.05],
        "compared_with": [],
    }
    assert two.message == (
        "21 of 100 images were found defective, more than --max-defect-fraction 0.2"
    )
