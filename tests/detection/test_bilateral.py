"""The bilateral filter as tensor operations, against OpenCV's."""

import numpy as np
import pytest
import torch

from vqad.detection import anomaly_map
from vqad.detection.bilateral import bilateral

TOLERANCE = 0.01  # grey levels; OpenCV interpolates the weights of colours in a table


@pytest.mark.parametrize("size_px", [64, 256])
def test_maps_agree_with_opencv(size_px: int) -> None:
    rng = np.random.default_rng(0)
    maps = np.zeros((3, size_px, size_px), np.float32)
    quarter = size_px // 4
    # At the border and inside, as sharp as differences of two decodings are; the last map is 0.
    maps[0, :quarter, :quarter] = rng.random((quarter, quarter)) * 441
    maps[1, quarter : 2 * quarter, quarter:-quarter] = rng.random((quarter, 2 * quarter)) * 80
    radius_px, sigma_space_px = anomaly_map._radius_and_sigma(size_px)
    found = bilateral(
        torch.from_numpy(maps),
        radius_px=radius_px,
        sigma_colour=anomaly_map._SIGMA_COLOUR,
        sigma_space_px=sigma_space_px,
    ).numpy()
    for one, other in zip(found, maps, strict=True):
        expected = anomaly_map.smooth(other, input_size_px=size_px)
        np.testing.assert_allclose(one, expected, atol=TOLERANCE)
    assert found[0].max() > 10
    assert not found[2].any()
