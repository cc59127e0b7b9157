"""Masks of regions have the boxes of the verdict row, and one polygon fills each of them."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqad.detection import score
from vqad.export.polygons import polygon
from vqad.export.source_masks import SourceMask, source_masks


def row_of(
    anomaly_map: np.ndarray, *, threshold: float, size: tuple[int, int], minimum_area_px: int
) -> dict[str, Any]:
    """A verdict row as the inspection makes it and the table keeps it."""
    height_px, width_px = size
    regions = score.regions(
        anomaly_map,
        threshold=threshold,
        minimum_area_px=minimum_area_px,
        source_width_px=width_px,
        source_height_px=height_px,
    )
    return {
        "height_px": height_px,
        "width_px": width_px,
        "threshold": float(np.float32(threshold)),
        "regions": [vars(each) for each in regions],
    }


def overlapping(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The slow way: each pixel of the image asks every pixel of the map that it overlaps."""
    found = np.zeros(size, bool)
    rows, cols = mask.shape
    for y in range(size[0]):
        for x in range(size[1]):
            top, bottom = y * rows // size[0], -(-(y + 1) * rows // size[0])
            left, right = x * cols // size[1], -(-(x + 1) * cols // size[1])
            found[y, x] = mask[top:bottom, left:right].any()
    return found


def whole(mask: SourceMask, size: tuple[int, int]) -> np.ndarray:
    found = np.zeros(size, bool)
    found[mask.box] = mask.pixels()
    return found


def filled(points: list[int], size: tuple[int, int]) -> np.ndarray:
    """A polygon filled by the even-odd rule: a pixel counts the edges to the left of its centre."""
    corners = list(zip(points[::2], points[1::2], strict=True))
    crossings = np.zeros((size[0], size[1] + 1), int)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        assert x0 == x1 or y0 == y1, "an outline runs along the edges of pixels"
        if x0 == x1:
            crossings[min(y0, y1) : max(y0, y1), x0] += 1
    return crossings.cumsum(1)[:, :-1] % 2 == 1


maps = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1)).map(
    lambda drawn: (np.random.default_rng(drawn[2]).random(drawn[:2]) * 9).round().astype(np.float32)
)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=100, deadline=None)
@given(
    anomaly_map=maps,
    size=sizes,
    area=st.integers(1, 5),
    threshold=st.sampled_from([0.0, 2.0, 4.5, 8.0]),
)
def test_masks_have_the_boxes_and_the_pixels_of_the_regions(
    anomaly_map: np.ndarray, size: tuple[int, int], area: int, threshold: float
) -> None:
    row = row_of(anomaly_map, threshold=threshold, size=size, minimum_area_px=area)
    found = source_masks(anomaly_map, row)
    assert found is not None
    assert len(found) == len(row["regions"])
    components = score.components(anomaly_map, threshold=threshold, minimum_area_px=area)
    for mask, region, component in zip(found, row["regions"], components, strict=True):
        pixels = whole(mask, size)
        inside = np.zeros(anomaly_map.shape, bool)
        inside[component.box] = component.mask
        assert (pixels == overlapping(inside, size)).all()
        box = [region[f"{side}_px"] for side in ("x", "y", "width", "height")]
        assert list(cv2.boundingRect(pixels.view(np.uint8))) == box
        assert mask.area_px == pixels.sum()
        assert mask.peak == region["peak"]


@settings(max_examples=100, deadline=None)
@given(anomaly_map=maps, size=sizes, threshold=st.sampled_from([0.0, 2.0, 4.5, 8.0]))
def test_one_polygon_fills_exactly_a_region_with_its_holes(
    anomaly_map: np.ndarray, size: tuple[int, int], threshold: float
) -> None:
    row = row_of(anomaly_map, threshold=threshold, size=size, minimum_area_px=1)
    for mask in source_masks(anomaly_map, row) or ():
        assert (filled(polygon(mask), size) == whole(mask, size)).all()


def ring() -> np.ndarray:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[1:6, 1:6] = 5
    anomaly_map[3, 3] = 0
    return anomaly_map


def test_a_rectangle_has_four_corners_and_a_hole_a_slit_from_the_left() -> None:
    anomaly_map = ring()
    row = row_of(anomaly_map, threshold=1.0, size=(8, 8), minimum_area_px=1)
    (mask,) = source_masks(anomaly_map, row) or ()
    assert len(polygon(mask)) == 2 * (4 + 4 + 2)
    anomaly_map[3, 3] = 5
    (mask,) = source_masks(anomaly_map, row) or ()
    assert sorted(zip(polygon(mask)[::2], polygon(mask)[1::2], strict=True)) == [
        *((1, 1), (1, 6), (6, 1), (6, 6))
    ]


def test_a_threshold_that_the_table_rounds_up_has_the_same_regions() -> None:
    stored = np.float32(0.1)
    threshold = float(np.nextafter(np.float64(stored), 0))
    anomaly_map = np.full((4, 4), stored)
    row = row_of(anomaly_map, threshold=threshold, size=(8, 8), minimum_area_px=16)
    assert row["threshold"] == float(stored)
    (mask,) = source_masks(anomaly_map, row) or ()
    assert mask.pixels().all()


def test_a_map_of_another_inspection_is_noticed() -> None:
    row = row_of(ring(), threshold=1.0, size=(80, 80), minimum_area_px=1)
    assert source_masks(np.roll(ring(), 1, axis=1), row) is None
    assert source_masks(np.zeros((8, 8), np.float32), row) is None


def test_a_mask_of_a_large_image_needs_few_cells() -> None:
    anomaly_map = np.full((256, 256), 5, np.float32)
    row = row_of(anomaly_map, threshold=1.0, size=(10_000, 9_999), minimum_area_px=64)
    (mask,) = source_masks(anomaly_map, row) or ()
    assert max(mask.cells.shape) <= 511
    assert mask.area_px == 10_000 * 9_999
    assert polygon(mask)[:2] == [0, 0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize("size", [(8, 8), (37, 91), (5, 3)])
def test_pycocotools_fills_a_polygon_as_the_mask_is(size: tuple[int, int]) -> None:
    masks = pytest.importorskip("pycocotools.mask", reason="needs the extra test")
    random = np.random.default_rng(3)
    for _ in range(20):
        anomaly_map = (random.random((9, 9)) * 9).round().astype(np.float32)
        row = row_of(anomaly_map, threshold=4.0, size=size, minimum_area_px=2)
        for mask in source_masks(anomaly_map, row) or ():
            encoded = masks.frPyObjects([[float(each) for each in polygon(mask)]], *size)
            assert (masks.decode(encoded)[..., 0] == whole(mask, size)).all()
