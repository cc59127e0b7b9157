"""Find from normal images whether a product lies in any direction, and the templates of its pose.

Two shares decide: how much of the pictures the template leaves unexplained where they are as they
are, and where each is turned into the template's pose. Only where turning leaves at most a quarter
is a product aligned. It costs most where it isn't needed: the corners of a turned picture are lost,
and a defect that consists in a wrong pose can't be seen any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from numpy import ndarray

from vqad.detection import image_threads
from vqad.detection.surprisal import Form
from vqad.images.alignment import (
    COARSE_PX,
    FINE_PX,
    Alignment,
    Contrast,
    Turned,
    best_turn,
    contrast,
    normalised,
    turns,
)
from vqad.images.decoding import to_unit
from vqad.images.placement import Placement
from vqad.training.options import AlignName, TrainOptions

MOST_IMAGES: Final = 60  # that the templates are made of; it takes a second or two
# Measured on seven photographed and fifteen drawn products (2026-11-27), unexplained as they are
# and turned: a screw .391 and .047, a nut .078 and .011, for which the image AUROC of local
# statistics alone rose from .697 to .998 and from .999 to 1. A plate of several shapes .097 and
# .035, which fell from .997 to .924; a nut of no even shape .027 and .017; all others at least half
# of what it was, or less than .02 as they are, but a grid, whose repeating pattern is no pose.
_LEAST_UNEXPLAINED: Final = 0.05
_MOST_LEFT: Final = 0.25
_NUM_STARTS: Final = 5  # pictures that are tried as the first template
_MOST_COMPARED: Final = 20  # with each of them
_NUM_ROUNDS: Final = 4

Pixels = Integer[ndarray, "num size size 3"]


@dataclass(frozen=True, kw_only=True)
class FoundAlignment:
    """The templates of a product, and what they explain of its normal images."""

    templates: Alignment
    asked: AlignName
    unexplained: float  # share of the pictures' contrast that the template leaves, as they are
    unexplained_aligned: float  # the same where each is turned into the template's pose

    @property
    def helps(self) -> bool:
        """True for a product that lies in any direction."""
        return (
            self.unexplained >= _LEAST_UNEXPLAINED
            and self.unexplained_aligned <= _MOST_LEFT * self.unexplained
        )

    @property
    def alignment(self) -> Alignment | None:
        """By which images are turned, None if they are not."""
        return self.templates if self.asked == "always" or self.helps else None

    def describe(self) -> str:
        """What is done and why; for people."""
        done = "each image is turned into one pose" if self.alignment else "images are not turned"
        return (
            f"{done}: a mean image leaves {self.unexplained:.3f} of an image unexplained, and "
            f"{self.unexplained_aligned:.3f} if each is turned (at most a quarter where a product "
            "lies in any direction); --align decides otherwise"
        )


def find_alignment(
    names: Sequence[str],
    pixels: Pixels,
    options: TrainOptions,
    *,
    form: Form,
    placements: Sequence[Placement],
) -> FoundAlignment | None:
    """Find it where the options ask for it; the kind of the product is known.

    Raises ValueError for images with padding that are to be aligned always.
    """
    asked = options.align or "auto"
    whole = options.tiling is None and all(each.counted is None for each in placements)
    if asked == "always" and not whole:
        raise ValueError(
            "images with padding can't be turned into one pose: give --resize squash, or leave out "
            "--align"
        )
    sought = asked == "auto" and whole and form == "full" and options.kind != "texture"
    if asked != "always" and not sought:
        return None
    return found_in(names, pixels, asked=asked, seed=options.seed)


def found_in(
    names: Sequence[str], pixels: Pixels, *, asked: AlignName = "auto", seed: int = 0
) -> FoundAlignment:
    """Find it from decoded normal images, uint8 or uint16, of which some are looked at."""
    # Sorted first, so that the choice depends on names and seed, not on the order of the listing.
    order = np.random.default_rng(seed).permutation(np.argsort(names))[:MOST_IMAGES]
    pictures = [to_unit(pixels[at]) for at in order.tolist()]
    coarse = [turns(contrast(each, COARSE_PX)) for each in pictures]
    template = _coarse_template(coarse)
    alignment = Alignment()
    alignment.coarse.copy_(torch.from_numpy(template))
    for pose_of in (alignment.coarse_pose, alignment.pose):
        poses = image_threads.of_each(pose_of, pictures)
        each = zip(poses, pictures, strict=True)
        fine = np.mean([contrast(pose.aligned(one), FINE_PX) for pose, one in each], axis=0)
        alignment.fine.copy_(torch.from_numpy(fine))
    as_they_are = np.stack([each[0] for each in coarse])
    mean = normalised(as_they_are.mean(0, keepdims=True))[0]
    return FoundAlignment(
        templates=alignment,
        asked=asked,
        unexplained=1 - float((as_they_are * mean).sum((1, 2)).mean()),
        unexplained_aligned=1 - _correlation(coarse, template),
    )


class AlignedRows:
    """Decoded pixels (num, size, size, 3), each aligned when it is read."""

    def __init__(self, alignment: Alignment, rows: Pixels) -> None:
        self.alignment = alignment
        self.rows = rows  # uint8 or uint16, in memory or mapped from a file

    def __getitem__(self, at: ndarray | slice | list[int]) -> UInt8[ndarray, "some size size 3"]:
        """The pixels at some positions."""
        return aligned_pixels(self.alignment, self.rows[at])


def aligned_pixels(alignment: Alignment, pixels: Pixels) -> UInt8[ndarray, "num size size 3"]:
    """Decoded pixels, uint8 or uint16, in the template's pose; always in 8 bits."""

    def of_image(own: ndarray) -> ndarray:
        picture = to_unit(own)
        return np.round(alignment.pose(picture).aligned(picture) * 255).astype(np.uint8)

    found = image_threads.of_each(of_image, pixels)
    return np.stack(found) if found else np.empty(pixels.shape, np.uint8)


def _coarse_template(pictures: Sequence[Turned]) -> Contrast:
    """The mean picture in one pose: turned to the most typical picture first, then to itself."""
    starts = [each[0] for each in pictures[:_NUM_STARTS]]
    alike = [_correlation(pictures[:_MOST_COMPARED], each) for each in starts]
    template = starts[int(np.argmax(alike))]
    for _ in range(_NUM_ROUNDS):
        found = [(each, best_turn(each, template)) for each in pictures]
        posed = [
            np.roll(each[turn.number], (turn.down, turn.right), (0, 1)) for each, turn in found
        ]
        template = _centred(normalised(np.mean(posed, axis=0, keepdims=True))[0])
    return template


def _centred(template: Contrast) -> Contrast:
    """The template with what is in it in the middle, so that no part of a product is cut off."""
    weights = template.clip(0)
    steps = []
    for axis in (0, 1):
        along = weights.sum(1 - axis)
        centre = float((along * np.arange(len(along))).sum() / max(float(along.sum()), 1e-9))
        steps.append(round((len(along) - 1) / 2 - centre))
    return np.roll(template, steps, (0, 1))


def _correlation(pictures: Sequence[Turned], template: Contrast) -> float:
    """How alike the pictures and the template are, each at its best turn."""
    return float(np.mean([best_turn(each, template).correlation for each in pictures]))
