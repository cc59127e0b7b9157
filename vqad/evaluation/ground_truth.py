"""Labels and masks of test images, in MVTec AD's layout.

An image's folder names its defect, a picture under ``ground_truth`` says where it is. A data set
without that folder has labels all the same, and so its image metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import dirname, splitext

import cv2
import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from vqad.images import decoding
from vqad.storage import errors, files, uris

GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known of some test images, in their order."""

    images: list[str]  # URIs
    defect_types: list[str]  # the folder that each lies in; "good" is none
    masks: Bool[ndarray, "n height width"] | None  # None where the data set has none

    @property
    def is_defect(self) -> Bool[ndarray, " n"]:
        """Whether each is defective."""
        return np.array([each != GOOD for each in self.defect_types], bool)

    def of_type(self, defect_type: str) -> Bool[ndarray, " n"]:
        """Which are of a defect type, or good."""
        return np.array([each in (GOOD, defect_type) for each in self.defect_types], bool)


def root_of_tests(data: str, category: str) -> str:
    """Where a category's test images lie."""
    return uris.absolute(uris.join(data, category, "test"))


def read_truth(data: str, category: str, wanted: Sequence[str], shape: tuple[int, int]) -> Truth:
    """Labels of test images, and their masks at the shape (height, width) of their maps.

    Raises ValueError where an image lies in no folder that names its defect, or lacks its mask.
    """
    root = root_of_tests(data, category)
    types = []
    for image in wanted:
        defect_type, separator, _ = uris.relative(image, root).partition("/")
        if not separator:
            raise ValueError(
                f"{image} lies in no folder that names its defect; expected {root}/good/* or "
                f"{root}/DEFECT/*"
            )
        types.append(defect_type)
    masks = None
    if files.exists(uris.join(data, category, "ground_truth")):
        masks = np.zeros((len(wanted), *shape), bool)
        for mask, image, defect_type in zip(masks, wanted, types, strict=True):
            if defect_type != GOOD:
                mask[:] = _mask(data, category, uris.relative(image, root), image, shape)
    return Truth(images=list(wanted), defect_types=types, masks=masks)


def _mask(data: str, category: str, path: str, image: str, shape: tuple[int, int]) -> ndarray:
    stem = splitext(path.rpartition("/")[2])[0]
    uri = uris.join(data, category, "ground_truth", dirname(path), f"{stem}_mask.png")
    try:
        encoded = files.read_bytes(uri, max_bytes=decoding.MAX_BYTES)
    except errors.FetchError as error:
        raise ValueError(f"no mask for {image}: {uri}: {error}") from error
    mask = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"mask {uri} is no picture")
    return cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST) > 127
