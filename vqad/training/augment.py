"""Augmentation: random variations of training images that suit the kind of product (4.3.1).

The kind says which variations are harmless. A small change of light or of place is harmless for
every kind, and `Jitter` says how large it may be. All functions run on the device of the images,
one batch at a time, and draw from one generator, so that a step can be repeated.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqad.array_types import Images
from vqad.model.kinds import Kind, nth_symmetry

LARGEST_TURN_DEGREES = 10.0  # of an `object`, to either side
SMALLEST_CROP = 7 / 8  # smallest share of each side of a `texture` in a crop


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Largest small changes that are harmless for every kind of product; 0 is none."""

    light: float = 0.0  # of contrast, and of brightness as a share of white
    shift: float = 0.0  # down and across, as a share of the side

    def __post_init__(self) -> None:
        """Refuse changes that are not small."""
        for name in ("light", "shift"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ValueError(f"{name} must be in [0, 0.5), got {getattr(self, name)}")


NO_JITTER = Jitter()


@dataclass(frozen=True, kw_only=True)
class Variations:
    """The variation of each image of a batch: drawn, but not yet applied."""

    symmetry: Tensor | None  # (batch,), int64 in [0, 8): a symmetry of the square
    transform: Tensor | None  # (batch, 2, 3), affine, in coordinates of [-1, 1]
    light: Tensor | None  # (batch, 2), a factor and what is added, of values in [0, 1]

    def __getitem__(self, part: slice) -> "Variations":
        """The variations of a part of the batch."""
        drawn = (self.symmetry, self.transform, self.light)
        symmetry, transform, light = (None if each is None else each[part] for each in drawn)
        return Variations(symmetry=symmetry, transform=transform, light=light)


def draw_variations(
    num: int, kind: Kind, generator: torch.Generator, jitter: Jitter = NO_JITTER
) -> Variations:
    """Draw a harmless variation for each of ``num`` images. ``generator`` is on the CPU."""
    symmetry, transform = None, None
    if kind == "object":
        transform = _small_turns(num, generator)
    else:
        # Four quarter turns, each with and without a flip: the eight symmetries of the square.
        symmetry = torch.randint(8, (num,), generator=generator)
        transform = _crops(num, generator) if kind == "texture" else None
    if jitter.shift and kind != "texture":  # the crops of a texture shift it already
        transform = _shifted(transform, num, jitter, generator)
    light = _light(num, jitter, generator) if jitter.light else None
    return Variations(symmetry=symmetry, transform=transform, light=light)


def vary(images: Images, drawn: Variations) -> Images:
    """Apply each variation to its image."""
    if drawn.symmetry is not None:
        images = _turn_and_flip(images, drawn.symmetry)
    if drawn.transform is not None:
        images = _sample(images, drawn.transform)
    if drawn.light is not None:
        factor, added = drawn.light.to(images).T[..., None, None, None]
        images = (images * factor + added).clamp(0, 1)
    return images


def augment(
    images: Images, kind: Kind, generator: torch.Generator, jitter: Jitter = NO_JITTER
) -> Images:
    """Draw one harmless variation of each image. ``generator`` is on the CPU."""
    return vary(images, draw_variations(len(images), kind, generator, jitter))


def _turn_and_flip(images: Images, symmetry: Tensor) -> Images:
    # All images of one symmetry at once: on a GPU, one call per image would take longer than the
    # optimizer step.
    turned = torch.empty_like(images)
    for n in range(8):
        chosen = (symmetry == n).nonzero()[:, 0].to(images.device)
        turned[chosen] = nth_symmetry(images[chosen], n)
    return turned


def _small_turns(num: int, generator: torch.Generator) -> Tensor:
    angle = torch.rand(num, generator=generator) * 2 - 1
    angle = angle * math.radians(LARGEST_TURN_DEGREES)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(num)
    return torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(num, 2, 3)


def _shifted(
    transform: Tensor | None, num: int, jitter: Jitter, generator: torch.Generator
) -> Tensor:
    if transform is None:
        transform = torch.eye(2, 3).repeat(num, 1, 1)
    # A side is 2 long in the coordinates of a transform.
    transform[:, :, 2] += 2 * jitter.shift * (torch.rand(num, 2, generator=generator) * 2 - 1)
    return transform


def _light(num: int, jitter: Jitter, generator: torch.Generator) -> Tensor:
    changes = jitter.light * (torch.rand(num, 2, generator=generator) * 2 - 1)
    return changes + torch.tensor([1.0, 0.0])


def _crops(num: int, generator: torch.Generator) -> Tensor:
    share = SMALLEST_CROP + (1 - SMALLEST_CROP) * torch.rand(num, 2, generator=generator)
    shift = (1 - share) * (torch.rand(num, 2, generator=generator) * 2 - 1)
    transform = torch.zeros(num, 2, 3)
    transform[:, [0, 1], [0, 1]] = share
    transform[:, :, 2] = shift
    return transform


def _sample(images: Images, transform: Tensor) -> Images:
    # The border is reflected, because the networks would learn black corners as normal. Bicubic
    # sampling keeps fine grain, so that images at inspection look no sharper than these.
    grid = F.affine_grid(transform.to(images), list(images.shape), align_corners=False)
    sampled = F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return sampled.clamp(0, 1)
