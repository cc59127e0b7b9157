"""Rows of decoded images as batches of a detector, and what is measured of such a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from vqad.detection.settings import Settings
from vqad.images import decoding
from vqad.images.appearance import appearance
from vqad.images.measures import MEASURES
from vqad.images.placement import Size
from vqad.images.tensors import to_images, to_tensor


def batch_of(rows: Sequence[dict[str, Any]], settings: Settings) -> torch.Tensor:
    """Images (batch, 3, size, size) in [0, 1] from the rows' pixels."""
    size_px = settings.vqvae.image_size_px
    pixels = [
        np.frombuffer(row["pixels"], np.uint8 if row["bits"] == 8 else np.uint16).reshape(
            size_px, size_px, 3
        )
        for row in rows
    ]
    return to_images(to_tensor(decoding.stack(pixels, bits=settings.bits)))


def sources_of(rows: Sequence[dict[str, Any]]) -> list[Size]:
    """Width and height of the rows' source images."""
    return [(row["width_px"], row["height_px"]) for row in rows]


def measured(batch: torch.Tensor, codes: torch.Tensor, num_codes: int) -> list[dict[str, Any]]:
    """The columns of each image for the statistics of the night."""
    looks = appearance(batch)
    counts = [torch.bincount(each.flatten(), minlength=num_codes) for each in codes.cpu()]
    return [
        {name: getattr(looks, name)[at] for name in MEASURES}
        | {"code_counts": each.numpy().astype("<u4").tobytes()}
        for at, each in enumerate(counts)
    ]


def chunks(rows: list[Any], size: int) -> Iterator[list[Any]]:
    """The rows, at most ``size`` at a time."""
    for at in range(0, len(rows), size):
        yield rows[at : at + size]
