"""Decoded pixels as tensors, and as the input images of the networks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vqad.array_types import Cells, Images
from vqad.images.placement import Placement, places_of
from vqad.model.finite import is_finite


def to_images(pixels: Tensor) -> Images:
    """Images in [0, 1] of pixels (batch, height, width, 3): uint8, or int32 of 16-bit values."""
    largest = 255 if pixels.dtype == torch.uint8 else 65535
    return pixels.movedim(-1, 1).float().div_(largest)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Decoded pixels as a tensor: uint8 stays, uint16 becomes int32."""
    if pixels.dtype == np.uint16:
        return torch.from_numpy(pixels.astype(np.int32))
    return torch.from_numpy(np.ascontiguousarray(pixels))


def filled(images: Images, placements: Sequence[Placement]) -> Images:
    """Square images as the networks take them.

    Those that have a pose are turned. Pixels that don't count have the nearest colour that does.
    """
    if any(each.pose for each in placements):
        images = _turned(images, placements)
    if all(each.inside is None for each in placements):
        return images  # padding was filled when the image was decoded
    found = [
        each if its.counted is None else each[:, torch.from_numpy(its.nearest).to(each.device)]
        for each, its in zip(images.flatten(2), placements, strict=True)
    ]
    return torch.stack(found).view(images.shape)


def _turned(images: Images, placements: Sequence[Placement]) -> Images:
    pictures = images.movedim(1, -1).cpu().numpy()
    found = [
        its.pose.aligned(picture) if its.pose else picture
        for picture, its in zip(pictures, placements, strict=True)
    ]
    return torch.from_numpy(np.stack(found)).movedim(-1, 1).to(images.device)


def counted(cells: Cells, placements: Sequence[Placement]) -> Cells:
    """The cells that are true and count."""
    found = places_of(placements, cells.shape[-1])
    return cells if found is None else cells & torch.from_numpy(found).to(cells.device)


def check_images(batch: Tensor, size_px: int, category: str) -> None:
    """Raise ValueError for what no detector of this input size could take."""
    if batch.ndim != 4 or batch.shape[1:] != (3, size_px, size_px):
        raise ValueError(
            f"images must be (batch, 3, {size_px}, {size_px}) for the {category} detector, got "
            f"{tuple(batch.shape)}"
        )
    if not is_finite(batch):
        raise ValueError("images must be finite, RGB in [0, 1]")
