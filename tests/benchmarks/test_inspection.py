"""The speed of inspecting is measured on images as the detector takes them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from vqad.benchmarks.inspection import random_detector, read_images
from vqad.images import listing


@pytest.mark.parametrize(("bits", "value"), [(12, 4095), (16, 65535)])
def test_values_of_16_bit_files_have_the_detector_s_bits(
    tmp_path: Path, bits: int, value: int
) -> None:
    assert cv2.imwrite(str(tmp_path / "white.png"), np.full((64, 64, 3), value, np.uint16))
    detector = random_detector("tiny").with_settings(bits=bits)
    images = read_images(detector, listing.list_images(str(tmp_path)))
    assert images.unique().tolist() == [1.0]
