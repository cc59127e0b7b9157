"""The outline of a mask as one polygon along the edges of its pixels.

Labelling tools and COCO know polygons without holes, and some tools read only the first polygon of
a region. So a hole is connected with what lies left of it by a slit without area: the polygon goes
along it in both directions.
"""

from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from vqad.export.source_masks import SourceMask

# Each cell becomes 4 x 4 pixels. The outer two rows (and columns) of a cell are at its edges, the
# second row is at the lower side of a slit in the first one.
_ENLARGED: Final = 4


def polygon(mask: SourceMask) -> list[int]:
    """The outline of a region as x1, y1, x2, y2, ... in pixels of the image.

    Filled by the even-odd rule it is exactly the region. Where two parts of the region touch at a
    corner, the polygon touches itself.
    """
    enlarged = _with_slits(mask.cells)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # One region is one 8-connected component, and the slits have made holes a part of the outside.
    (contour,) = contours
    # The outline runs through the outer pixels of the enlarged cells: 4 i and 4 i + 3 are the edges
    # i and i + 1, 4 i + 1 is the lower side of a slit at the edge i, and 4 i + 2 is left of the end
    # of a slit at the edge i + 1.
    corners = (contour[:, 0] + 2) // _ENLARGED
    xs, ys = np.array(mask.cols)[corners[:, 0]], np.array(mask.rows)[corners[:, 1]]
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    return [value for point in _corners(points) for value in point]


def _with_slits(cells: Bool[ndarray, "rows cols"]) -> UInt8[ndarray, "large_rows large_cols"]:
    """The enlarged cells, in which no hole is left."""
    block = np.ones((_ENLARGED, _ENLARGED), np.uint8)
    enlarged = np.kron(cells.view(np.uint8), block)
    for row, col in _holes(cells):
        # Along the upper edge of the row, to the first place with a cell above or below that is
        # not of the region. That is outside, or another hole whose first column is further left:
        # so every hole is connected with the outside, and by one way only.
        ends = np.flatnonzero(~(cells[row, :col] & cells[row - 1, :col]))
        end = int(ends[-1]) if len(ends) else -1
        # If the cell above ends it, the slit must reach under that cell.
        is_above = end >= 0 and bool(cells[row, end])
        start = _ENLARGED * (end + 1) - is_above
        enlarged[_ENLARGED * row, start : _ENLARGED * col] = 0
    return enlarged


def _holes(cells: Bool[ndarray, "rows cols"]) -> list[tuple[int, int]]:
    """A cell in the first column of each hole, as row and column."""
    outside = np.pad(~cells, 1, constant_values=True).view(np.uint8)
    # 4-connected: cells that touch at a corner are one region, so a hole ends between them.
    number, labels = cv2.connectedComponents(outside, connectivity=4)
    found = []
    for label in set(range(1, number)) - {int(labels[0, 0])}:
        rows, cols = np.nonzero(labels == label)
        first = int(cols.argmin())
        found.append((int(rows[first]) - 1, int(cols[first]) - 1))
    return found


def _corners(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The points without those that repeat another one or lie on a straight line."""
    kept: list[tuple[int, int]] = []
    for point in points:
        if not kept or point != kept[-1]:
            kept.append(point)
    while len(kept) > 1 and kept[0] == kept[-1]:
        kept.pop()
    return [
        point
        for before, point, after in zip(
            kept[-1:] + kept[:-1], kept, kept[1:] + kept[:1], strict=True
        )
        if not _is_between(before, point, after)
    ]


def _is_between(before: Any, point: Any, after: Any) -> bool:
    (x0, y0), (x1, y1), (x2, y2) = before, point, after
    straight = (x1 - x0) * (y2 - y1) == (x2 - x1) * (y1 - y0)
    return straight and (x1 - x0) * (x2 - x1) + (y1 - y0) * (y2 - y1) > 0
