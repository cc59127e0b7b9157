"""The precision of stored maps: no score and no order changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy import ndarray

from vqad.detection.score import predicted_mask, regions, score, verdict
from vqad.detection.stored_map import as_stored

VALUES = st.one_of(
    st.floats(0, 442, width=32, allow_subnormal=False),
    st.floats(0, 1, width=32, allow_subnormal=False),
    # Neighbours in float32, as the form full has them around its score.
    st.integers(-40, 40).map(lambda n: float(np.float32(12.3) + np.float32(n) * np.float32(1e-5))),
    st.sampled_from([0.0, 1e-30, 0.5, 1.0, 16.0, 32.0, float(np.nextafter(np.float32(32), 0))]),
)
MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=VALUES)


@given(anomaly_map=MAPS, minimum_area_px=st.integers(1, 12))
def test_the_score_of_a_stored_map_is_the_same_in_bits(
    anomaly_map: ndarray, minimum_area_px: int
) -> None:
    value = score(anomaly_map, minimum_area_px=minimum_area_px)
    stored = as_stored(anomaly_map, image_score=value)
    assert score(stored, minimum_area_px=minimum_area_px) == value
    np.testing.assert_array_equal(as_stored(stored, image_score=value), stored)


@given(anomaly_map=MAPS, minimum_area_px=st.integers(1, 12), threshold=st.floats(0, 50))
def test_exactly_the_images_that_are_defects_have_regions_in_their_stored_maps(
    anomaly_map: ndarray, minimum_area_px: int, threshold: float
) -> None:
    value = score(anomaly_map, minimum_area_px=minimum_area_px)
    found = regions(
        as_stored(anomaly_map, image_score=value),
        threshold=threshold,
        minimum_area_px=minimum_area_px,
        source_width_px=900,
        source_height_px=900,
    )
    assert bool(found) == (verdict(value, threshold) == "defect")
    assert not found or found[0].peak >= value


@given(anomaly_map=MAPS, image_score=VALUES)
def test_values_keep_their_order_and_change_little(
    anomaly_map: ndarray, image_score: float
) -> None:
    stored = as_stored(anomaly_map, image_score=image_score)
    assert stored.dtype == np.float32
    order = np.argsort(anomaly_map, axis=None)
    assert (np.diff(stored.ravel()[order]) >= 0).all()
    assert ((stored >= np.float32(image_score)) == (anomaly_map >= np.float32(image_score))).all()
    assert ((stored == 0) <= (anomaly_map < 1e-3)).all()
    assert not stored[anomaly_map == 0].any()
    bound = np.maximum(1 / 32, anomaly_map / 512)
    assert (np.abs(stored - anomaly_map) <= bound).all()
    small = anomaly_map[anomaly_map > 1e-5]
    assert (np.abs(as_stored(small[None], image_score=0.0) - small) <= small / 16).all()


def test_values_that_the_form_full_compressed_around_the_score_stay_apart() -> None:
    """Within a thousandth of the score, and just above it."""
    value = np.float32(12.3)
    compressed = np.linspace(value * 0.999, value * 1.003, 40).astype(np.float32)[None]
    stored = as_stored(compressed, image_score=float(value))
    assert len(np.unique(stored)) > 30
    assert len(np.unique(as_stored(compressed, image_score=400.0))) < 5


def test_a_smooth_map_has_few_values_and_its_regions_hardly_move() -> None:
    rows, cols = np.mgrid[:256, :256]
    anomaly_map = (40 * np.exp(-((rows - 90) ** 2 + (cols - 140) ** 2) / 900)).astype(np.float32)
    value = score(anomaly_map, minimum_area_px=64)
    stored = as_stored(anomaly_map, image_score=value)
    assert len(np.unique(stored)) < 1500 < len(np.unique(anomaly_map)) / 5
    for threshold in (1.0, 7.3, 12.2, 30.0):
        before, after = (predicted_mask(each, threshold).sum() for each in (anomaly_map, stored))
        assert after == pytest.approx(before, rel=0.01)
