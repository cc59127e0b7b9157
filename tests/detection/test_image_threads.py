"""The images of a batch side by side."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vqad.detection import anomaly_map, image_threads


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order_for_any_number_of_threads(threads: int) -> None:
    assert image_threads.of_each(lambda one, two: one - two, range(9), range(0, 18, 2)) == [
        -n for n in range(9)
    ]


def test_the_error_of_an_image_is_raised(threads: int) -> None:
    def fails(number: int) -> float:
        return 1 / (number - 2)

    with pytest.raises(ZeroDivisionError):
        image_threads.of_each(fails, range(5))


def test_maps_are_the_same_in_bits_for_any_number_of_threads(threads: int) -> None:
    direct, restored = torch.rand(2, 5, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    found = anomaly_map.maps_of_pairs(7, [0, 1, 3, 4, 6], direct, restored, size_px=64)
    for at, one, other in zip([0, 1, 3, 4, 6], direct, restored, strict=True):
        alone = anomaly_map.difference(one.numpy(), other.numpy())
        np.testing.assert_array_equal(
            found[at], anomaly_map.smooth(alone, input_size_px=64), strict=True
        )
    assert not found[2].any()
