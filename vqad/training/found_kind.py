"""Find the kind of a product from its normal images, where it is not given (4.3.1).

Small pictures of edges are compared, since the light that falls from one side changes them little.
Two numbers decide:

- **variation**: how much the quietest places differ between images, relative to how much a picture
  differs in itself. A texture differs everywhere. Any other product has a background or an outline
  that stays.
- **symmetry**: the correlation of the mean picture and its turned and mirrored copies. A product
  that lies in any direction looks the same on average in all of them.

The median of the seven copies decides, because the symmetries of a product that is not rotatable
make at most three of them equal: they are a subgroup of the eight. A wrong symmetry would teach the
networks what never occurs, so that whatever is unclear is an object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Integer
from numpy import ndarray

from vqad.images.decoding import to_unit
from vqad.images.placement import Cropped
from vqad.model.kinds import Kind, nth_symmetry

MOST_IMAGES: Final = 100  # that are looked at; it takes less than a second
FEWEST_IMAGES: Final = 20  # a guess; below it, any product is an object
# Measured on seven photographed and eighteen drawn products (2026-11-26). On samples of 20 images,
# variation is at least .56 for textures and at most .34 for the others. Symmetry is at most .68 for
# what stands. For what lies in any direction it is at least .76 on 50 images and .57 on 20.
_TEXTURE_VARIATION: Final = 0.45
_ROTATABLE_SYMMETRY: Final = 0.75
_QUIETEST: Final = 0.1  # share of the places
_EDGES_PX: Final = 32  # side of the pictures in which edges are found
_PLACES: Final = 16  # on each side, over which they are averaged
_EDGE_LEVELS: Final = 8.0  # grey levels of a Sobel filter; stronger edges count by their logarithm


Pictures = Cropped | Integer[ndarray, "num height width 3"]


@dataclass(frozen=True, kw_only=True)
class FoundKind:
    """The kind of a product, and what it was found by."""

    num_images: int
    variation: float  # about 1 for a texture, about 0 for a product that lies still
    symmetry: float  # in [-1, 1]

    @property
    def kind(self) -> Kind:
        """An object, unless the images clearly show another kind."""
        if self.num_images < FEWEST_IMAGES:
            return "object"
        if self.variation > _TEXTURE_VARIATION:
            return "texture"
        return "rotatable_object" if self.symmetry > _ROTATABLE_SYMMETRY else "object"

    def describe(self) -> str:
        """The kind, why it is, and what to do if it is wrong; for people."""
        if self.num_images < FEWEST_IMAGES:
            return (
                f"taken to be of the kind object: {self.num_images} images are too few to find it; "
                "--kind gives another"
            )
        return (
            f"found to be of the kind {self.kind}: variation at every place {self.variation:.2f} "
            f"(a texture above {_TEXTURE_VARIATION}), symmetry {self.symmetry:.2f} (a rotatable "
            f"object above {_ROTATABLE_SYMMETRY}); --kind gives another"
        )


def find_kind(names: Sequence[str], pixels: Pictures, *, seed: int) -> FoundKind:
    """Find the kind from decoded normal images, uint8 or uint16, of which some are looked at."""
    # Sorted first, so that the choice depends on names and seed, not on the order of the listing.
    order = np.random.default_rng(seed).permutation(np.argsort(names))[:MOST_IMAGES]
    edges = np.stack([_edges(pixels[at]) for at in order.tolist()])
    if len(edges) < 2 or not edges.any():
        return FoundKind(num_images=len(edges), variation=0.0, symmetry=0.0)
    return FoundKind(
        num_images=len(edges), variation=_variation(edges), symmetry=_symmetry(edges.mean(0))
    )


def _edges(picture: Integer[ndarray, "height width 3"]) -> Float32[ndarray, "rows cols"]:
    """Strength of edges at each place, less its mean over the picture."""
    # A pixel more on each side, where the filter would have to invent neighbours.
    side = _EDGES_PX + 2
    grey = 255 * to_unit(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)).mean(2)
    right, down = (cv2.Sobel(grey, cv2.CV_32F, *step) for step in ((1, 0), (0, 1)))
    strength = np.log1p(np.hypot(right, down)[1:-1, 1:-1] / np.float32(_EDGE_LEVELS))
    places = cv2.resize(strength, (_PLACES, _PLACES), interpolation=cv2.INTER_AREA)
    return places - places.mean()


def _variation(edges: Float32[ndarray, "num rows cols"]) -> float:
    between = np.quantile(edges.std(0, ddof=1), _QUIETEST)
    return float(between / np.sqrt(np.mean(edges**2)))


def _symmetry(mean: Float32[ndarray, "rows cols"]) -> float:
    # The mean picture's own mean is 0, and a turned copy has the same sum of squares.
    copies = [nth_symmetry(torch.from_numpy(mean), n).numpy() for n in range(1, 8)]
    squares = max(float(np.sum(mean**2)), np.finfo(np.float32).tiny)
    return float(np.median([np.sum(mean * each) for each in copies]) / squares)
