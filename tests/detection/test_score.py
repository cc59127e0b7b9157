"""From two decodings to map, score and regions."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy import ndarray
from skimage.morphology import area_opening

from vqad.detection.anomaly_map import difference, smooth
from vqad.detection.score import components, predicted_mask, regions, score, verdict

# Few levels, so that ties and plateaus abound.
LEVELS = st.sampled_from([0.0, 0.5, 1.0, 7.25, 7.5, 300.0])
MAPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=LEVELS,
    fill=st.just(0.0),
)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """OpenCV splits a large map among threads and rounds differently where it does."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def blobs(rng: np.random.Generator, height: int, width: int) -> ndarray:
    """Some rectangles of noise, many over the border, of any strength."""
    anomaly_map = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        size = rng.integers(1, 30, 2)
        top, left = (int(v) for v in rng.integers(-size + 1, (height, width)))
        part = anomaly_map[max(0, top) : top + size[0], max(0, left) : left + size[1]]
        part[:] = rng.random(part.shape) * rng.choice([0.5, 5, 60, 440])
    return anomaly_map


def test_the_difference_is_the_distance_in_rgb_on_the_8_bit_scale() -> None:
    direct = np.zeros((2, 3, 3), np.float32)
    restored = direct.copy()
    restored[0, 1] = [3 / 255, 4 / 255, 12 / 255]
    restored[1, 2] = 1
    expected = [[0, 13, 0], [0, 0, 255 * 3**0.5]]
    np.testing.assert_allclose(difference(direct, restored), expected, rtol=1e-6)


def test_equal_decodings_give_exactly_zero_in_float32() -> None:
    picture = np.random.default_rng(0).random((8, 8, 3), np.float32)
    anomaly_map = difference(picture, picture.copy())
    assert anomaly_map.dtype == np.float32
    assert not anomaly_map.any()


def test_a_decoding_that_is_not_finite_is_refused() -> None:
    broken = np.zeros((2, 3, 3), np.float32)
    broken[1, 1, 0], broken[0, 2, 2] = np.nan, np.inf
    with pytest.raises(ValueError, match="not finite at 2 of 6 pixels"):
        difference(np.zeros_like(broken), broken)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize(("height", "width"), [(256, 256), (64, 67), (40, 150)])
@pytest.mark.parametrize(("input_size_px", "radius"), [(256, 10), (128, 5), (32, 1), (64, 2)])
def test_the_filter_confined_to_a_box_is_the_filter_on_the_whole_map_bit_for_bit(
    height: int, width: int, input_size_px: int, radius: int
) -> None:
    rng = np.random.default_rng(height * radius)
    for _ in range(8):
        anomaly_map = blobs(rng, height, width)
        sigma_space = 75 * input_size_px / 256
        whole = cv2.bilateralFilter(anomaly_map, 2 * radius, 75, sigma_space)
        confined = smooth(anomaly_map, input_size_px=input_size_px)
        assert np.array_equal(whole, confined)


def test_the_filter_confined_to_a_box_agrees_where_several_threads_share_a_large_map() -> None:
    rng = np.random.default_rng(0)
    anomaly_map = blobs(rng, 256, 256)
    whole = cv2.bilateralFilter(anomaly_map, 40, 75, 150)
    np.testing.assert_allclose(smooth(anomaly_map, input_size_px=512), whole, atol=1e-3)


def test_the_filter_spreads_no_further_than_its_radius() -> None:
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[32, 32] = 100
    rows, cols = np.nonzero(smooth(anomaly_map, input_size_px=256))
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (22, 42, 22, 42)


def test_a_map_of_zeros_stays_exactly_zero() -> None:
    smoothed = smooth(np.zeros((32, 32), np.float32), input_size_px=32)
    assert smoothed.dtype == np.float32
    assert not smoothed.any()


def test_smoothing_leaves_its_input_alone() -> None:
    anomaly_map = blobs(np.random.default_rng(3), 64, 64)
    before = anomaly_map.copy()
    smooth(anomaly_map, input_size_px=256)
    assert np.array_equal(anomaly_map, before)


def test_an_input_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="input_size_px must be at least 1, got 0"):
        smooth(np.zeros((2, 2), np.float32), input_size_px=0)


@settings(max_examples=300, deadline=None)
@given(anomaly_map=MAPS, data=st.data())
def test_the_score_is_the_maximum_of_an_area_opening(
    anomaly_map: ndarray, data: st.DataObject
) -> None:
    minimum_area_px = data.draw(st.integers(1, anomaly_map.size + 1))
    # A frame of zeros changes nothing, and scikit-image wants three pixels a side.
    opened = area_opening(np.pad(anomaly_map, 1), minimum_area_px, connectivity=2)
    assert score(anomaly_map, minimum_area_px=minimum_area_px) == opened.max()


def test_the_score_of_a_smooth_map_without_ties_is_the_maximum_of_an_area_opening() -> None:
    rng = np.random.default_rng(5)
    for area in (1, 16, 64, 500):
        anomaly_map = smooth(blobs(rng, 128, 128), input_size_px=128)
        opened = area_opening(anomaly_map, area, connectivity=2)
        assert score(anomaly_map, minimum_area_px=area) == opened.max()


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    anomaly_map = np.diag(np.array([5, 6, 7], np.float32))
    assert score(anomaly_map, minimum_area_px=3) == 5


def test_a_minimum_area_larger_than_the_map_scores_zero() -> None:
    assert score(np.full((4, 4), 9, np.float32), minimum_area_px=17) == 0
    assert score(np.full((4, 4), 9, np.float32), minimum_area_px=16) == 9


def test_a_map_of_zeros_scores_zero() -> None:
    assert score(np.zeros((4, 4), np.float32), minimum_area_px=1) == 0


def test_a_minimum_area_of_nothing_is_refused() -> None:
    anomaly_map = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="minimum_area_px must be at least 1, got 0"):
        score(anomaly_map, minimum_area_px=0)
    with pytest.raises(ValueError, match="minimum_area_px must be at least 1, got -2"):
        regions(
            anomaly_map, threshold=0.0, minimum_area_px=-2, source_width_px=4, source_height_px=4
        )


def test_a_score_at_the_threshold_is_normal_and_above_it_a_defect() -> None:
    assert verdict(21.5, 21.5) == "normal"
    assert verdict(21.6, 21.5) == "defect"


def test_the_predicted_mask_compares_without_rounding_the_threshold() -> None:
    # float32 of 0.1 is a little more than 0.1, so the pixel is above the threshold.
    assert predicted_mask(np.full((1, 1), 0.1, np.float32), 0.1).all()


@settings(max_examples=200, deadline=None)
@given(
    anomaly_map=MAPS,
    minimum_area_px=st.integers(1, 30),
    threshold=st.one_of(LEVELS, st.floats(0, 301)),
)
def test_exactly_the_defects_have_regions(
    anomaly_map: ndarray, minimum_area_px: int, threshold: float
) -> None:
    found = regions(
        anomaly_map,
        threshold=threshold,
        minimum_area_px=minimum_area_px,
        source_width_px=100,
        source_height_px=100,
    )
    is_defect = verdict(score(anomaly_map, minimum_area_px=minimum_area_px), threshold) == "defect"
    assert bool(found) == is_defect


def test_regions_are_boxes_in_source_pixels_with_the_highest_peak_first() -> None:
    anomaly_map = np.zeros((8, 10), np.float32)
    anomaly_map[1:3, 2:5] = 4  # six pixels
    anomaly_map[5:8, 6:10] = 7  # twelve, to the corner
    anomaly_map[5, 6] = 9
    anomaly_map[0, 9] = 99  # too small
    weak, strong = (2, 1, 3, 2, 6, 4.0), (6, 5, 4, 3, 12, 9.0)
    found = regions(
        anomaly_map, threshold=3.0, minimum_area_px=6, source_width_px=20, source_height_px=24
    )
    assert [(r.x_px, r.y_px, r.width_px, r.height_px, r.area_px, r.peak) for r in found] == [
        (x * 2, y * 3, width * 2, height * 3, area * 6, peak)
        for x, y, width, height, area, peak in (strong, weak)
    ]


def test_a_box_is_scaled_outwards_to_whole_source_pixels() -> None:
    anomaly_map = np.zeros((3, 3), np.float32)
    anomaly_map[1, 1] = 5
    (region,) = regions(
        anomaly_map, threshold=1.0, minimum_area_px=1, source_width_px=10, source_height_px=4
    )
    # Columns 3.33 to 6.67 and rows 1.33 to 2.67.
    assert (region.x_px, region.width_px, region.y_px, region.height_px) == (3, 4, 1, 2)
    assert region.area_px == round(40 / 9)


@settings(max_examples=200, deadline=None)
@given(anomaly_map=MAPS, width=st.integers(1, 4000), height=st.integers(1, 4000))
def test_boxes_lie_inside_the_source_image_and_hold_something(
    anomaly_map: ndarray, width: int, height: int
) -> None:
    for region in regions(
        anomaly_map,
        threshold=0.0,
        minimum_area_px=1,
        source_width_px=width,
        source_height_px=height,
    ):
        assert region.x_px >= 0
        assert region.y_px >= 0
        assert region.x_px + region.width_px <= width
        assert region.y_px + region.height_px <= height
        assert min(region.width_px, region.height_px, region.area_px) >= 1


def test_the_peak_is_that_of_the_component_and_not_of_its_box() -> None:
    anomaly_map = np.full((5, 5), 3, np.float32)
    anomaly_map[1:4, 1:4] = 0
    anomaly_map[2, 2] = 8  # inside the ring's box, yet apart from it
    found = regions(
        anomaly_map, threshold=1.0, minimum_area_px=1, source_width_px=5, source_height_px=5
    )
    assert [(region.peak, region.area_px) for region in found] == [(8, 1), (3, 16)]


@settings(max_examples=100, deadline=None)
@given(anomaly_map=MAPS, width=st.integers(1, 60), height=st.integers(1, 60))
def test_the_length_is_the_largest_distance_between_two_corners_of_its_pixels(
    anomaly_map: ndarray, width: int, height: int
) -> None:
    scale = width / anomaly_map.shape[1], height / anomaly_map.shape[0]
    some = components(anomaly_map, threshold=0.0, minimum_area_px=1)
    found = regions(
        anomaly_map,
        threshold=0.0,
        minimum_area_px=1,
        source_width_px=width,
        source_height_px=height,
    )
    for region, component in zip(found, some, strict=True):
        ys, xs = np.nonzero(component.mask)
        corners = np.concatenate([np.stack([xs + x, ys + y], 1) for x in (0, 1) for y in (0, 1)])
        apart = (corners[:, None] - corners) * scale
        assert region.length_px == pytest.approx(np.hypot(*apart.T).max(), rel=1e-6)


def test_a_scratch_from_corner_to_corner_is_as_long_as_the_diagonal() -> None:
    (region,) = regions(
        np.eye(8, dtype=np.float32),
        threshold=0.5,
        minimum_area_px=8,
        source_width_px=400,
        source_height_px=300,
    )
    assert region.length_px == pytest.approx(500)


def test_a_source_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="must have pixels, got 0 x 4"):
        regions(
            np.ones((4, 4), np.float32),
            threshold=0.0,
            minimum_area_px=1,
            source_width_px=0,
            source_height_px=4,
        )
