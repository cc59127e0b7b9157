"""Labels and masks of test images as arrays, at the resolution of the anomaly maps.

A pixel of a mask is defective if it is not zero: see `mask_files`. A pixel of the map is
defective if any part of it is covered by a defective pixel of the mask. So a scratch of one pixel
in a large image stays in the truth when the mask is shrunk to the size of the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from vqad.evaluation.canvas import Canvas
from vqad.evaluation.labelled_images import GOOD, LabelledImages
from vqad.images.mask_files import read_mask


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels and masks of some test images, in their order."""

    images: list[str]  # URIs
    defect_types: list[str]  # GOOD, or the folder of the image
    masks: Bool[ndarray, "n height width"] | None  # None where the data set has none
    empty: list[str] = field(default_factory=list)  # defective images whose masks have no pixel
    source_share: float | None = None  # defective pixels of all masks before they were resized
    counted: Bool[ndarray, "n height width"] | None = None  # pixels that count; None if all do

    @property
    def is_defect(self) -> Bool[ndarray, " n"]:
        """True for each image that is defective."""
        return np.array([each != GOOD for each in self.defect_types], bool)

    def of_type(self, defect_type: str) -> Bool[ndarray, " n"]:
        """True for each image that is of this defect type, or good."""
        return np.array([each in (GOOD, defect_type) for each in self.defect_types], bool)


def read_truth(labelled: LabelledImages, wanted: Sequence[str], canvas: Canvas) -> Truth:
    """Labels of the wanted images, and their masks at the shapes of their maps.

    What does not count is not defective. Raises ValueError if a mask cannot be read.
    """
    types = [labelled.defect_types[image] for image in wanted]
    if labelled.masks is None:
        return Truth(images=list(wanted), defect_types=types, masks=None)
    masks = np.zeros((len(wanted), *np.max(canvas.shapes, axis=0)), bool)
    empty, shares = [], []
    for at, image in enumerate(wanted):
        mask = canvas.cropped(masks, at)  # a view
        sources = [read_mask(uri) for uri in labelled.masks.get(image, [])]
        for source in sources:
            mask |= resized(source, canvas.shapes[at])
        shares.append(sum(float(source.mean()) for source in sources))
        if sources and not mask.any():
            empty.append(image)
    if canvas.counted is not None:
        masks &= canvas.counted
    return Truth(
        images=list(wanted),
        defect_types=types,
        masks=masks,
        counted=canvas.counted,
        empty=empty,
        source_share=float(np.mean(shares)) if shares else None,
    )


def resized(
    mask: Bool[ndarray, "source_height source_width"], shape: tuple[int, int]
) -> Bool[ndarray, "height width"]:
    """The mask at another shape (height, width); a pixel is true if any part of it is covered."""
    for axis, size in enumerate(shape):
        mask = _resized(mask, axis, size)
    return mask


def _resized(mask: ndarray, axis: int, size: int) -> ndarray:
    # In whole numbers, so that no rounding lets a pixel at a boundary appear or vanish.
    old, at = mask.shape[axis], np.arange(size)
    starts, ends = at * old // size, -(-(at + 1) * old // size)
    # `reduceat` takes the rows from each index to the next one, or a single row where the next
    # one is not larger. So every second result is the row of one pixel; the others are not used.
    # The last end is one behind the last row, where there must be a row for it to index.
    padded = np.concatenate([mask, np.zeros_like(mask.take([0], axis))], axis)
    bounds = np.stack([starts, ends], 1).ravel()
    return np.logical_or.reduceat(padded, bounds, axis).take(2 * at, axis)
