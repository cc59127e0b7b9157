"""From an anomaly map to score, verdict and regions (paper section 3.4).

The paper raises a threshold until the largest component of the map has a minimum area. `score` is
the threshold at which that happens. So score > threshold is the paper's rule, and exactly the
images that are defects have regions.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection.anomaly_map import Box, bounding_box


@dataclass(frozen=True, kw_only=True)
class Region:
    """A defective region: box, area, length and peak (grey levels), in source image pixels."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: float
    length_px: float  # largest distance between two of its points


def score(anomaly_map: AnomalyMap, *, minimum_area_px: int) -> float:
    """Find the largest t for which {map >= t} has a component of the minimum area (grey levels).

    Components are 8-connected; the score is 0 if there is none. It equals the maximum of an area
    opening of the map.
    """
    _check_area(minimum_area_px)
    if not anomaly_map.any():
        return 0.0
    # The largest t is one of the map's own values: between two of them {map >= t} does not change.
    inside = np.ascontiguousarray(anomaly_map[bounding_box(anomaly_map, margin_px=0)])
    levels = np.sort(inside, axis=None)
    # A level with fewer pixels at or above it than the area has no component of that area.
    candidates = levels[np.count_nonzero(levels <= 0) : max(0, levels.size - minimum_area_px + 1)]
    num_levels = _num_with_component(inside, candidates, minimum_area_px)
    return float(candidates[num_levels - 1]) if num_levels else 0.0


def _num_with_component(
    inside: AnomalyMap, levels: Float32[ndarray, " levels"], minimum_area_px: int
) -> int:
    """Count the levels for which {map >= level} has a component of the minimum area.

    The higher the level, the smaller {map >= level}, and so its largest component. So the levels
    with such a component come first, and their last one is found by bisection. It begins near the
    highest level, where the last one mostly is and components are counted in little time.
    """
    num, none_from, step = 0, len(levels), minimum_area_px
    while num < none_from:
        at = max((num + none_from) // 2, none_from - step)
        above = inside >= levels[at]
        if _largest_area(above) < minimum_area_px:
            none_from, step = at, 4 * step
        else:
            num = at + 1
            # What is below this level is below all that are still to be tried.
            x, y, width, height = cv2.boundingRect(above.view(np.uint8))
            inside = inside[y : y + height, x : x + width]
    return num


def verdict(score: float, threshold: float) -> Literal["normal", "defect"]:
    """`defect` if the score is strictly above the threshold."""
    return "defect" if score > threshold else "normal"


def predicted_mask(
    anomaly_map: Float32[ndarray, "*batch height width"], threshold: float
) -> Bool[ndarray, "*batch height width"]:
    """Pixels of a map, or of each of a stack of maps, that are strictly above the threshold."""
    # As float64: numpy would otherwise round the threshold to float32, which `verdict` does not.
    return anomaly_map > np.float64(threshold)


def regions(
    anomaly_map: AnomalyMap,
    *,
    threshold: float,
    minimum_area_px: int,
    source_width_px: int,
    source_height_px: int,
) -> list[Region]:
    """List the 8-connected components above the threshold, the highest peak first.

    The minimum area counts pixels of the map. Boxes and areas are scaled to source image pixels,
    boxes outwards to whole ones.
    """
    if min(source_width_px, source_height_px) < 1:
        raise ValueError(
            f"the source image must have pixels, got {source_width_px} x {source_height_px}"
        )
    source = source_height_px, source_width_px
    return [
        _to_source(each, shape=anomaly_map.shape, source=source)
        for each in components(anomaly_map, threshold=threshold, minimum_area_px=minimum_area_px)
    ]


@dataclass(frozen=True, kw_only=True)
class Component:
    """An 8-connected component of a map above the threshold, in pixels of the map."""

    box: Box
    mask: Bool[ndarray, "box_height box_width"]  # its pixels inside the box
    area_px: int
    peak: float  # its largest value


def components(
    anomaly_map: AnomalyMap, *, threshold: float, minimum_area_px: int
) -> list[Component]:
    """List the components above the threshold that have the minimum area, highest peak first."""
    _check_area(minimum_area_px)
    above = predicted_mask(anomaly_map, threshold)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
        above.view(np.uint8), connectivity=8
    )
    found = []
    for label in range(1, num_labels):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area >= minimum_area_px:
            box = slice(y, y + height), slice(x, x + width)
            mask = labels[box] == label
            peak = float(anomaly_map[box][mask].max())
            found.append(Component(box=box, mask=mask, area_px=area, peak=peak))
    return sorted(found, key=lambda component: -component.peak)


def box_in_source(box: Box, *, shape: tuple[int, ...], source: tuple[int, int]) -> Box:
    """The pixels of an image of size `source` that a box of a map of `shape` overlaps."""
    rows, cols = (
        # In integers, so that no rounding error moves an edge that lies between two pixels.
        slice(side.start * new // old, -(-side.stop * new // old))
        for side, old, new in zip(box, shape, source, strict=True)
    )
    return rows, cols


def _to_source(component: Component, *, shape: tuple[int, ...], source: tuple[int, int]) -> Region:
    """Stretch a component from a map of (height, width) `shape` to an image of `source`."""
    rows, cols = box_in_source(component.box, shape=shape, source=source)
    area_scale = source[0] * source[1] / (shape[0] * shape[1])
    return Region(
        x_px=cols.start,
        y_px=rows.start,
        width_px=cols.stop - cols.start,
        height_px=rows.stop - rows.start,
        area_px=max(1, round(component.area_px * area_scale)),
        peak=component.peak,
        length_px=_length(component.mask, width=source[1] / shape[1], height=source[0] / shape[0]),
    )


def _length(mask: Bool[ndarray, "rows cols"], *, width: float, height: float) -> float:
    """The largest distance between two points of a region whose pixels have this size."""
    rows = np.flatnonzero(mask.any(1))
    # Both points are corners of a pixel that is the first or the last one of its row.
    first, last = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    xs = np.concatenate([first, last, first, last]) * width
    ys = np.concatenate([rows, rows, rows + 1, rows + 1]) * height
    hull = cv2.convexHull(np.stack([xs, ys], 1).astype(np.float32))[:, 0]
    return float(np.linalg.norm(hull[:, None] - hull, axis=2).max())


def _largest_area(mask: Bool[ndarray, "height width"]) -> int:
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def _check_area(minimum_area_px: int) -> None:
    if minimum_area_px < 1:
        raise ValueError(f"minimum_area_px must be at least 1, got {minimum_area_px}")
