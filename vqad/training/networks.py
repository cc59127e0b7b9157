"""Fit the two networks: plain torch loops that yield a record per interval.

The caller decides what to do with a record: write a line, report to Ray Train, save a checkpoint.
All state of a loop is in ``Fitting``, and the random numbers of a step depend only on the seed and
the step. So to resume is to load a state and to call the loop again. Several workers may run one
loop, each on its part of every batch (``data_parallel``).
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vqad.array_types import Codes, Images
from vqad.images.tensors import to_images, to_tensor
from vqad.model.kinds import Kind, nth_symmetry, variations
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.vqvae import VQVAE
from vqad.training import data_parallel
from vqad.training.alignment import AlignedRows
from vqad.training.augment import NO_JITTER, Jitter, augment, draw_variations, vary
from vqad.training.loop import (
    CollapseError,
    FitOptions,
    Fitting,
    Interval,
    Record,
    autocast,
    check_finite,
    descend,
    generator_of,
    is_interval,
    step_seed,
)

BATCH_SIZE = 16  # images per pass without gradients
_BATCH_SIZE_ON_GPU = 256


class OnDisk:
    """Decoded pixels that are too large for memory: rows of a file, read on demand."""

    def __init__(
        self, rows: np.ndarray | AlignedRows, positions: np.ndarray, device: torch.device
    ) -> None:
        self.rows = rows  # (num, size, size, 3), uint8 or uint16, mapped from the file
        self.positions = positions  # rows that belong to this set
        self.device = device

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """The pixels at some positions, on the device."""
        at = chosen.cpu().numpy() if isinstance(chosen, Tensor) else chosen
        return to_tensor(self.rows[self.positions[at]]).to(self.device)


Pixels = Tensor | OnDisk


def some_of(
    rows: np.ndarray | AlignedRows, positions: np.ndarray, device: torch.device | str
) -> Pixels:
    """The rows at some positions: on the device, or read on demand if they lie in a file."""
    if isinstance(rows.rows if isinstance(rows, AlignedRows) else rows, np.memmap):
        return OnDisk(rows, positions, torch.device(device))
    return to_tensor(rows[positions]).to(device)


def fit_vqvae(
    fitting: Fitting,
    pixels: Pixels,
    held_out: Tensor,
    *,
    kind: Kind,
    options: FitOptions,
    seed: int,
) -> Iterator[Record]:
    """Fit the VQ-VAE to decoded pixels (num, height, width, 3) until its budget is used up.

    Yields one record per interval, at which the fitting may be saved. Raises DivergenceError.
    """
    model = fitting.network
    assert isinstance(model, VQVAE)
    clock = Interval(model.config.num_codes)
    while fitting.step < options.num_steps:
        generator = generator_of(seed, fitting.step)
        images = draw_images(pixels, kind, options.batch_size, generator, jitter=options.jitter)
        if fitting.step == options.num_warmup_steps:
            _start_codebook(model, pixels, kind, generator, jitter=options.jitter)
        loss, codes = _vqvae_step(fitting, images, options, generator)
        clock.add(loss, codes, options.batch_size)
        fitting.step += 1
        if is_interval(fitting.step, options):
            error = vqvae_error(model, held_out)
            # No later loss would reveal NaN weights after the final step.
            check_finite("held-out error", error, fitting.step)
            yield clock.record("vqvae", fitting.step, options, error)
            clock = Interval(model.config.num_codes)


def _vqvae_step(
    fitting: Fitting, images: Images, options: FitOptions, generator: torch.Generator
) -> tuple[Tensor, Codes | None]:
    model = fitting.network
    assert isinstance(model, VQVAE)
    model.train()
    with autocast(images.device):
        out = model(images, lookup=fitting.step >= options.num_warmup_steps)
        loss = model.loss(images, out)
    whole = descend(fitting, loss, options, len(images) / options.batch_size)
    if out.codes is not None and model.config.codebook == "moving_average":
        model.codebook.learn(
            out.latents,
            out.codes,
            generator,
            data_parallel.add_up,
            lambda tensor: data_parallel.take_first([tensor]),
        )
    return whole, out.codes


def _start_codebook(
    model: VQVAE,
    pixels: Pixels,
    kind: Kind,
    generator: torch.Generator,
    *,
    jitter: Jitter,
    num_images: int = 64,
) -> None:
    if model.config.codebook == "gradient":
        return
    with torch.no_grad(), autocast(pixels.device):
        images = draw_images(pixels, kind, num_images, generator, whole=True, jitter=jitter)
        model.codebook.start(model.encoder(images * 2 - 1), generator)
    # Workers agree up to rounding, but at the border between two codes that would part them.
    data_parallel.take_first(model.codebook.buffers())


def fit_prior(
    fitting: Fitting, maps: Codes, held_out: Tensor, *, options: FitOptions, seed: int
) -> Iterator[Record]:
    """Fit the prior to code maps of augmented normal images; ``held_out`` are other such maps.

    It ends with the budget, or after ``patience`` intervals without a better held-out likelihood.
    The network then has the weights of the best held-out likelihood. Raises DivergenceError.
    """
    model = fitting.network
    assert isinstance(model, PixelSNAIL)
    if fitting.step == 0:
        model.start_at(maps)
    clock = Interval(model.config.num_codes)
    while fitting.step < options.num_steps and not _is_out_of_patience(fitting, options):
        chosen = torch.randint(
            len(maps), (options.batch_size,), generator=generator_of(seed, fitting.step)
        )
        part = chosen[data_parallel.part_of(len(chosen))].to(maps.device)
        # Dropout draws from torch's global generator; each worker needs draws of its own.
        torch.manual_seed(step_seed(seed, fitting.step) + (data_parallel.rank() << 53))
        model.train()
        with autocast(maps.device):
            loss = model.loss(maps[part])
        clock.add(descend(fitting, loss, options, len(part) / len(chosen)), None, len(chosen))
        fitting.step += 1
        if is_interval(fitting.step, options):
            _keep_best(fitting, prior_nats(model, held_out))
            yield clock.record("prior", fitting.step, options, fitting.best)
            clock = Interval(model.config.num_codes)
    model.load_state_dict(fitting.best_weights)


def _is_out_of_patience(fitting: Fitting, options: FitOptions) -> bool:
    return 0 < options.patience <= fitting.num_since_best


def _keep_best(fitting: Fitting, nats: float) -> None:
    check_finite("held-out likelihood", nats, fitting.step)
    if nats < fitting.best:
        fitting.best, fitting.num_since_best = nats, 0
        fitting.best_weights = copy.deepcopy(fitting.network.state_dict())
    else:
        fitting.num_since_best += 1


@torch.no_grad()
def code_maps(
    model: VQVAE,
    pixels: Pixels,
    *,
    kind: Kind,
    num_variations: int,
    seed: int,
    jitter: Jitter = NO_JITTER,
) -> Codes:
    """Codes of ``num_variations`` variations of every image, for the fit of the prior.

    If an image has no more variations than that, each is taken once.
    """
    model.eval()
    every = variations(kind) if jitter == NO_JITTER else None
    num_rounds = num_variations if every is None else min(num_variations, every)
    step = _batch_size(pixels.device)
    starts = [(n, at) for n in range(num_rounds) for at in range(0, len(pixels), step)]
    size = model.config.latent_size
    maps = torch.zeros(num_rounds * len(pixels), size, size, dtype=torch.int64)
    maps = maps.to(pixels.device)
    for n, at in starts[data_parallel.part_of(len(starts))]:
        images = _batch(pixels[at : at + step])
        first = n * len(pixels) + at
        if every is None:
            images = augment(images, kind, generator_of(seed, first), jitter)
        else:
            images = nth_symmetry(images, n)
        maps[first : first + len(images)] = model.encode(images)
    data_parallel.add_up(maps)
    return maps


@torch.no_grad()
def encode(model: VQVAE, pixels: Pixels) -> Codes:
    """Codes of decoded pixels without augmentation, in float32."""
    model.eval()
    return torch.cat([model.encode(images) for _, images in batches(pixels)])


def codes_in_use(maps: Codes, num_codes: int) -> int:
    """Number of distinct codes in some maps. Raises CollapseError below 1/16 of the codebook."""
    used = int((torch.bincount(maps.flatten(), minlength=num_codes) > 0).sum())
    if used < num_codes / 16:
        raise CollapseError(
            f"the codebook collapsed: {used} of {num_codes} codes in use over {len(maps)} maps; "
            "try another --seed or --preset, and check that the images are not almost uniform"
        )
    return used


@torch.no_grad()
def vqvae_error(model: VQVAE, pixels: Tensor) -> float:
    """Mean squared reconstruction error of decoded pixels, on images in [-1, 1]."""
    model.eval()
    total = torch.zeros((), device=pixels.device)
    for _, images in batches(pixels[data_parallel.part_of(len(pixels))]):
        with autocast(images.device):
            decoded = model(images).decoded.float()
        total += (decoded - (images * 2 - 1)).square().mean() * len(images)
    data_parallel.add_up(total)
    return total.item() / len(pixels)


@torch.no_grad()
def prior_nats(model: PixelSNAIL, maps: Codes) -> float:
    """Mean negative log-likelihood of a code, in nats."""
    model.eval()
    total = torch.zeros((), device=maps.device)
    for chunk in maps[data_parallel.part_of(len(maps))].split(_batch_size(maps.device)):
        if len(chunk):
            with autocast(maps.device):
                total += model.loss(chunk) * len(chunk)
    data_parallel.add_up(total)
    return total.item() / len(maps)


def batches(pixels: Pixels) -> Iterator[tuple[int, Images]]:
    """Images of decoded pixels in batches, each with the position of its first image."""
    step = _batch_size(pixels.device)
    for at in range(0, len(pixels), step):
        yield at, _batch(pixels[at : at + step])


def _batch_size(device: torch.device) -> int:
    return _BATCH_SIZE_ON_GPU if device.type == "cuda" else BATCH_SIZE


def _batch(pixels: Tensor) -> Images:
    return to_images(pixels).contiguous(memory_format=torch.channels_last)


def draw_images(
    pixels: Pixels,
    kind: Kind,
    num: int,
    generator: torch.Generator,
    *,
    whole: bool = False,
    jitter: Jitter = NO_JITTER,
) -> Images:
    """Draw a batch of images with replacement, each in a harmless variation.

    Returns this worker's part of it, or the whole batch; ``generator`` ends in the same state.
    """
    chosen = torch.randint(len(pixels), (num,), generator=generator)
    drawn = draw_variations(num, kind, generator, jitter)
    part = slice(0, num) if whole else data_parallel.part_of(num)
    images = vary(to_images(pixels[chosen[part].to(pixels.device)]), drawn[part])
    return images.contiguous(memory_format=torch.channels_last)
