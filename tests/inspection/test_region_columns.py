"""Regions in the verdicts table: in pixels of the image, and in millimetres with a scale."""

import numpy as np
import pyarrow as pa
import pytest

from tests.support.random_detectors import detector_of
from vqad import tables
from vqad.inspection.region_columns import region_columns

COLUMNS = ("regions", "region_lengths_px", "regions_mm")


def test_lengths_are_in_pixels_of_the_image_and_in_millimetres() -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[4:7, 8:12] = 9
    detector = detector_of(threshold=2.5)
    found = detector.regions(anomaly_map, source_width_px=160, source_height_px=320)
    assert region_columns(found, detector.settings)["regions_mm"] is None
    scaled = detector.with_settings(px_per_mm=20.0).settings
    schema = pa.schema([tables.VERDICTS.field(name) for name in COLUMNS])
    table = pa.Table.from_pylist([region_columns(found, scaled)], schema=schema)
    (row,) = table.to_pylist()
    size = {"x_px": 80, "y_px": 80, "width_px": 40, "height_px": 60, "area_px": 2400, "peak": 9}
    assert row["regions"] == [size]
    (length_px,) = row["region_lengths_px"]
    assert length_px == pytest.approx(np.hypot(40, 60))
    (found_mm,) = row["regions_mm"]
    expected = {"x_mm": 4, "y_mm": 4, "width_mm": 2, "height_mm": 3, "area_mm2": 6}
    assert found_mm == pytest.approx(expected | {"length_mm": np.hypot(2, 3)})


def test_a_normal_image_has_no_regions_in_any_unit() -> None:
    settings = detector_of().with_settings(px_per_mm=20.0).settings
    assert region_columns([], settings) == {name: [] for name in COLUMNS}


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="px_per_mm must be above 0, got"):
        detector_of().with_settings(px_per_mm=scale)
