"""Maps of images of several shapes in one array, and the pixels of it that count.

Each map lies in the top left corner of its canvas, which is as large as the largest of them. What
lies beside a map counts in no metric, and neither does what lies outside a region of interest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from vqad.array_types import OwnMap
from vqad.images.placement import Geometry, Size

Shape = tuple[int, int]  # height and width


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """How the maps of some images lie in one array."""

    shapes: list[Shape]  # of the maps
    counted: Bool[ndarray, "n height width"] | None  # None if all pixels count

    def cropped(self, stacked: ndarray, at: int) -> ndarray:
        """The part of an array of all images that is of one of them."""
        height, width = self.shapes[at]
        found: ndarray = stacked[at, :height, :width]
        return found


def stacked(maps: list[OwnMap]) -> Float32[ndarray, "n height width"]:
    """The maps in one array, which takes them out of the list: memory is that of one of both."""
    height, width = (max(each.shape[axis] for each in maps) for axis in (0, 1))
    found = np.zeros((len(maps), height, width), np.float32)
    for at in reversed(range(len(maps))):
        each = maps.pop()
        found[at, : each.shape[0], : each.shape[1]] = each
    return found


def canvas_of(
    shapes: Sequence[Shape], sources: Sequence[Size], geometry: Geometry | None
) -> Canvas:
    """The canvas of maps of these shapes, of images of these sizes.

    ``geometry`` is that of their detector, which knows of a region of interest, or None.
    """
    height, width = (max(each[axis] for each in shapes) for axis in (0, 1))
    counted = np.zeros((len(shapes), height, width), bool)
    for at, (shape, source) in enumerate(zip(shapes, sources, strict=True)):
        inside = geometry.counted_of_map(source, shape) if geometry else None
        counted[at, : shape[0], : shape[1]] = True if inside is None else inside
    return Canvas(shapes=list(shapes), counted=None if counted.all() else counted)
