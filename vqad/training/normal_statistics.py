"""Measure the normal images of a training, as the statistics of later nights are measured."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from vqad.detection.normal_statistics import NormalStatistics, half_distance, spread
from vqad.images.appearance import Appearance, appearance
from vqad.images.measures import MEASURES
from vqad.images.tensors import to_images
from vqad.model.vqvae import VQVAE
from vqad.training.networks import Pixels, encode

# Of the images that the networks learned from, for brightness, contrast and sharpness: their means
# need to be exact, and more images make them hardly more so. A guess.
MOST_LEARNED_FROM: Final = 500
_BATCH_SIZE: Final = 16


def measure(
    vqvae: VQVAE,
    held_out: Tensor,
    learned_from: Pixels | None,
    *,
    seed: int,
    not_aligned: tuple[Tensor, Pixels] | None = None,
) -> NormalStatistics:
    """Statistics of decoded pixels (num, size, size, 3).

    ``not_aligned`` are both sets as they were before they were aligned, if they are: the look of a
    night's images is measured on what the camera sees, and their codes on what the networks see.
    """
    histograms = _histograms(vqvae, held_out)
    num_held_out = len(held_out)
    if not_aligned is not None:
        held_out, learned_from = not_aligned
    looks = _looks(held_out)
    if learned_from is not None:
        num = len(learned_from)
        order = np.random.default_rng(seed).permutation(num)[:MOST_LEARNED_FROM]
        for at in range(0, len(order), _BATCH_SIZE):
            looks += _looks(learned_from[torch.from_numpy(order[at : at + _BATCH_SIZE])])
    measured = {name: np.concatenate([getattr(each, name) for each in looks]) for name in MEASURES}
    return NormalStatistics(
        num_images=len(measured["brightness"]),
        brightness=spread(measured["brightness"]),
        contrast=spread(measured["contrast"]),
        sharpness=spread(measured["sharpness"]),
        num_held_out=num_held_out,
        code_counts=histograms.sum(0).tolist(),
        half_distance=half_distance(histograms, seed=seed),
    )


def _looks(pixels: Tensor) -> list[Appearance]:
    return [appearance(to_images(chunk)) for chunk in pixels.split(_BATCH_SIZE)]


def _histograms(vqvae: VQVAE, pixels: Tensor) -> np.ndarray:
    codes = encode(vqvae, pixels).cpu().numpy()
    num_codes = vqvae.config.num_codes
    return np.stack([np.bincount(each.ravel(), minlength=num_codes) for each in codes])
