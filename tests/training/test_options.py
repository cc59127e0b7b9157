"""What new detectors do where an option is not given."""

from typing import Any

import pytest

from vqad.training.options import TrainOptions, recorded_options


@pytest.mark.parametrize(
    ("options", "resize", "precision"),
    [
        ({}, "pad", "bfloat16"),  # of the preset laptop
        ({"preset": "tiny"}, "pad", "float32"),
        ({"preset": "paper"}, "squash", "float32"),
        ({"tile_px": 512}, "squash", "bfloat16"),  # a tile is square
        ({"resize": "squash", "precision": "float32"}, "squash", "float32"),
        ({"preset": "paper", "resize": "pad", "precision": "bfloat16"}, "pad", "bfloat16"),
    ],
)
def test_the_preset_decides_what_is_not_given(
    options: dict[str, Any], resize: str, precision: str
) -> None:
    found = TrainOptions(category="washer", **options)
    assert (found.known_resize, found.known_precision) == (resize, precision)


def test_other_defaults_do_not_train_a_detector_again() -> None:
    # Detectors of older programs, which squashed images, were recorded without these options.
    assert not {"resize", "precision"} & TrainOptions(category="washer").shaping().keys()
    asked = TrainOptions(category="washer", resize="squash")
    assert asked.shaping() != TrainOptions(category="washer").shaping()
    assert recorded_options({"category": "washer"}, "washer") == TrainOptions(category="washer")
