"""The pixels of the source image that belong to each region of a verdict.

A verdict row has the box of each region, and the map has its pixels: a region is a component of
{map > threshold} with the detector's minimum area. The row does not have that minimum, but a row
with n regions has the n largest components. The components are compared with the boxes of the
row, so that a map of another inspection is noticed.

A pixel of the image belongs to a region if it overlaps a pixel of the region in the map. So the box
of these pixels is the box of the region, whatever the sizes of map and image are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection import score
from vqad.detection.anomaly_map import Box
from vqad.detection.score import Component


@dataclass(frozen=True, kw_only=True)
class SourceMask:
    """The pixels of one region, on a grid that is finer nowhere than it has to be.

    Cell (r, c) of ``cells`` is the pixels of the image from ``rows[r]`` to ``rows[r + 1]`` and from
    ``cols[c]`` to ``cols[c + 1]``, the ends excluded. A map of 256 x 256 pixels needs at most 511
    cells on a side, so an image of any size needs little memory.
    """

    cells: Bool[ndarray, "num_rows num_cols"]
    rows: list[int]  # edges in pixels of the image, one more than there are rows of cells
    cols: list[int]
    peak: float  # of the region, in the unit of the map

    @property
    def box(self) -> Box:
        """The rows and columns of the image that the region is in."""
        return slice(self.rows[0], self.rows[-1]), slice(self.cols[0], self.cols[-1])

    @property
    def area_px(self) -> int:
        """Number of pixels of the image."""
        areas = np.outer(np.diff(self.rows), np.diff(self.cols))
        return int(areas[self.cells].sum())

    def pixels(self) -> Bool[ndarray, "box_height box_width"]:
        """The mask of the image's pixels inside the box."""
        return self.cells.repeat(np.diff(self.rows), axis=0).repeat(np.diff(self.cols), axis=1)


def source_masks(anomaly_map: AnomalyMap, row: dict[str, Any]) -> list[SourceMask] | None:
    """The mask of each region of a verdict row, in its order; None if the map is of another row."""
    source = row["height_px"], row["width_px"]
    wanted = [_box_of(region) for region in row["regions"]]
    for threshold in _thresholds(row["threshold"]):
        found = _largest(anomaly_map, threshold, len(wanted))
        boxes = [
            score.box_in_source(each.box, shape=anomaly_map.shape, source=source) for each in found
        ]
        if boxes == wanted:
            return [_stretched(each, anomaly_map.shape, source) for each in found]
    return None


def _box_of(region: dict[str, int]) -> Box:
    top, left = region["y_px"], region["x_px"]
    return slice(top, top + region["height_px"]), slice(left, left + region["width_px"])


def _thresholds(stored: float) -> tuple[float, float]:
    """The stored threshold, and the one below it.

    The detector's threshold is a float64 that the table rounds to float32. If it was rounded up,
    pixels of exactly the stored value were above it.
    """
    return stored, float(np.nextafter(np.float32(stored), np.float32(-np.inf)))


def _largest(anomaly_map: AnomalyMap, threshold: float, count: int) -> list[Component]:
    """The components with the largest areas, the highest peak first."""
    found = score.components(anomaly_map, threshold=threshold, minimum_area_px=1)
    by_area = sorted(range(len(found)), key=lambda at: -found[at].area_px)
    return [found[at] for at in sorted(by_area[:count])]


def _stretched(component: Component, shape: tuple[int, ...], source: tuple[int, int]) -> SourceMask:
    cells, edges = component.mask, []
    for axis, (side, old, new) in enumerate(zip(component.box, shape, source, strict=True)):
        edges.append(_edges(side, old, new))
        cells = _overlapping(cells, edges[axis][:-1], side, old, new, axis=axis)
    return SourceMask(cells=cells, rows=edges[0], cols=edges[1], peak=component.peak)


def _edges(side: slice, old: int, new: int) -> list[int]:
    """Where the pixels of the map that a pixel of the image overlaps may become others."""
    lines = range(side.start, side.stop + 1)
    found = {line * new // old for line in lines} | {-(-line * new // old) for line in lines}
    start, stop = side.start * new // old, -(-side.stop * new // old)
    return sorted(each for each in found if start <= each <= stop)


def _overlapping(
    mask: Bool[ndarray, "rows cols"],
    pixels: Sequence[int],
    side: slice,
    old: int,
    new: int,
    *,
    axis: int,
) -> Bool[ndarray, "new_rows new_cols"]:
    """True for each of these pixels of the image that overlaps a True of the map, along an axis."""
    first = np.array([max(side.start, each * old // new) for each in pixels]) - side.start
    last = np.array([min(side.stop, -(-(each + 1) * old // new)) for each in pixels]) - side.start
    sums = np.insert(mask.cumsum(axis=axis, dtype=np.int32), 0, 0, axis=axis)
    overlapped: Bool[ndarray, "new_rows new_cols"] = sums.take(last, axis) > sums.take(first, axis)
    return overlapped
