"""Fitting the two networks: plain torch loops that yield a record as they go.

What is done with a record (a line on a terminal, a Ray Train report, a checkpoint) is for the
caller to choose. A loop keeps all that it needs to go on in ``Fitting``, and the random numbers
of a step follow from the seed and the step alone, so that resuming is loading and calling again.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqad.augment import Kind, augment, nth_symmetry, variations
from vqad.pixelsnail import PixelSNAIL
from vqad.shapes import Codes, Images
from vqad.vqvae import VQVAE


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Budget and pace of one network's fit. Budgets count optimizer steps, not epochs."""

    num_steps: int
    batch_size: int
    learning_rate: float = 3e-4  # 4.3.2; of Adam, at its highest
    num_rise_steps: int = 20  # linear rise before the cosine fall to a twentieth
    interval_steps: int = 20  # steps between two records
    num_warmup_steps: int = 0  # VQ-VAE only: without the lookup, before k-means
    variations_per_image: int = 8  # prior only: augmented code maps an image
    patience: int = 0  # prior only: intervals without a better held-out likelihood; 0 = never stop

    def __post_init__(self) -> None:
        """Refuse budgets that fit nothing."""
        for name in ("num_steps", "batch_size", "interval_steps", "variations_per_image"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate must be in (0, 1), got {self.learning_rate}")
        for name in ("num_rise_steps", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.num_warmup_steps < self.num_steps:
            raise ValueError(
                f"num_warmup_steps must be in [0, {self.num_steps}), got {self.num_warmup_steps}"
            )


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one interval of fitting came to."""

    stage: str  # vqvae or prior
    step: int
    num_steps: int
    images_per_s: float
    loss: float  # mean over the interval
    held_out: float  # VQ-VAE: mean squared error in [-1, 1]; prior: nats a code
    codes_used: int  # VQ-VAE: distinct codes over the interval
    perplexity: float  # VQ-VAE: exp of the entropy of the codes over the interval

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class CollapseError(ValueError):
    """The codebook fell onto a few codes; a prior over them would learn nothing."""


class DivergenceError(ValueError):
    """The loss is no longer a number."""


@dataclass(kw_only=True)
class Fitting:
    """A network on its way: everything that has to survive a restart."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf  # prior only: lowest held-out nats a code, and the weights that had it
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    num_since_best: int = 0

    @classmethod
    def begin(cls, network: nn.Module, options: FitOptions) -> "Fitting":
        """Start from the network's weights as they are."""
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rate = options.learning_rate
        return cls(network=network, optimizer=torch.optim.Adam(network.parameters(), lr=rate))

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values that load with ``weights_only=True``."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "best_weights": self.best_weights,
            "num_since_best": self.num_since_best,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("step", "best", "best_weights", "num_since_best"):
            setattr(self, name, state[name])


def to_images(pixels: Tensor) -> Images:
    """Decoded pixels (batch, height, width, 3), uint8 or int32 of 16 bits, to images in [0, 1]."""
    largest = 255 if pixels.dtype == torch.uint8 else 65535
    return pixels.movedim(-1, 1).float().div(largest)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Decoded pixels as torch keeps them: uint8 stays, uint16 becomes int32."""
    if pixels.dtype == np.uint16:
        return torch.from_numpy(pixels.astype(np.int32))
    return torch.from_numpy(np.ascontiguousarray(pixels))


def reduced_precision(device: torch.device) -> bool:
    """Whether bfloat16 pays here: GPUs that have it, CPUs with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> torch.autocast:
    """Bfloat16 where it pays, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=reduced_precision(device))


def fit_vqvae(
    fitting: Fitting,
    pixels: Tensor,
    held_out: Tensor,
    *,
    kind: Kind,
    options: FitOptions,
    seed: int,
) -> Iterator[Record]:
    """Fit the VQ-VAE to decoded pixels (num, height, width, 3) until its budget is used up.

    Yields a record an interval; the fitting may be saved at each. Raises DivergenceError.
    """
    model = fitting.network
    assert isinstance(model, VQVAE)
    clock = Interval(model.config.num_codes)
    while fitting.step < options.num_steps:
        generator = generator_of(seed, fitting.step)
        images = draw_images(pixels, kind, options.batch_size, generator)
        if fitting.step == options.num_warmup_steps:
            _start_codebook(model, pixels, kind, generator)
        loss, codes = _vqvae_step(fitting, images, options, generator)
        clock.add(loss, codes, len(images))
        fitting.step += 1
        if is_interval(fitting.step, options):
            error = vqvae_error(model, held_out)
            # The last step's weights meet no other loss that could tell.
            _check_finite("held-out error", error, fitting.step)
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
    descend(fitting, loss, options)
    if out.codes is not None and model.config.codebook == "moving_average":
        model.codebook.learn(out.latents, out.codes, generator)
    return loss.detach(), out.codes


def _start_codebook(
    model: VQVAE, pixels: Tensor, kind: Kind, generator: torch.Generator, num_images: int = 64
) -> None:
    if model.config.codebook == "gradient":
        return
    with torch.no_grad(), autocast(pixels.device):
        images = draw_images(pixels, kind, num_images, generator)
        model.codebook.start(model.encoder(images * 2 - 1), generator)


def fit_prior(
    fitting: Fitting, maps: Codes, held_out: Tensor, *, options: FitOptions, seed: int
) -> Iterator[Record]:
    """Fit the prior to code maps of augmented normal images; ``held_out`` are other such maps.

    It ends with the weights that gave the held-out maps their highest likelihood, at the end of
    the budget or when ``patience`` intervals brought nothing better. Raises DivergenceError.
    """
    model = fitting.network
    assert isinstance(model, PixelSNAIL)
    clock = Interval(model.config.num_codes)
    while fitting.step < options.num_steps and not _is_out_of_patience(fitting, options):
        chosen = torch.randint(
            len(maps), (options.batch_size,), generator=generator_of(seed, fitting.step)
        )
        # Dropout draws from torch's own generator.
        torch.manual_seed(_step_seed(seed, fitting.step))
        model.train()
        with autocast(maps.device):
            loss = model.loss(maps[chosen.to(maps.device)])
        descend(fitting, loss, options)
        clock.add(loss.detach(), None, options.batch_size)
        fitting.step += 1
        if is_interval(fitting.step, options):
            _keep_best(fitting, prior_nats(model, held_out))
            yield clock.record("prior", fitting.step, options, fitting.best)
            clock = Interval(model.config.num_codes)
    model.load_state_dict(fitting.best_weights)


def _is_out_of_patience(fitting: Fitting, options: FitOptions) -> bool:
    return 0 < options.patience <= fitting.num_since_best


def _keep_best(fitting: Fitting, nats: float) -> None:
    _check_finite("held-out likelihood", nats, fitting.step)
    if nats < fitting.best:
        fitting.best, fitting.num_since_best = nats, 0
        fitting.best_weights = copy.deepcopy(fitting.network.state_dict())
    else:
        fitting.num_since_best += 1


@torch.no_grad()
def code_maps(model: VQVAE, pixels: Tensor, *, kind: Kind, num_variations: int, seed: int) -> Codes:
    """Codes of ``num_variations`` variations of every image: what the prior is fitted on.

    Where an image has no more variations than that, each of them is taken once.
    """
    model.eval()
    every = variations(kind)
    maps = []
    for n in range(num_variations if every is None else min(num_variations, every)):
        for at, batch in batches(pixels):
            if every is None:
                images = augment(batch, kind, generator_of(seed, n * len(pixels) + at))
            else:
                images = nth_symmetry(batch, n)
            maps.append(model.encode(images))
    return torch.cat(maps)


@torch.no_grad()
def encode(model: VQVAE, pixels: Tensor) -> Codes:
    """Codes of decoded pixels as they are, in float32."""
    model.eval()
    return torch.cat([model.encode(images) for _, images in batches(pixels)])


def codes_in_use(maps: Codes, num_codes: int) -> int:
    """Distinct codes over some maps. Raises CollapseError under a sixteenth of the codebook."""
    used = int((torch.bincount(maps.flatten(), minlength=num_codes) > 0).sum())
    if used < num_codes / 16:
        raise CollapseError(
            f"the codebook collapsed: {used} of {num_codes} codes in use over {len(maps)} maps; "
            "use codebook=moving_average, more steps or a lower learning rate"
        )
    return used


@torch.no_grad()
def vqvae_error(model: VQVAE, pixels: Tensor) -> float:
    """Mean squared reconstruction error of decoded pixels, on images in [-1, 1]."""
    model.eval()
    total = 0.0
    for _, images in batches(pixels):
        with autocast(images.device):
            decoded = model(images).decoded.float()
        total += (decoded - (images * 2 - 1)).square().mean().item() * len(images)
    return total / len(pixels)


@torch.no_grad()
def prior_nats(model: PixelSNAIL, maps: Codes) -> float:
    """Mean negative log-likelihood of a code, in nats."""
    model.eval()
    total = 0.0
    for chunk in maps.split(16):
        with autocast(maps.device):
            total += model.loss(chunk).item() * len(chunk)
    return total / len(maps)


def batches(pixels: Tensor, size: int = 16) -> Iterator[tuple[int, Images]]:
    """Images of decoded pixels in batches, each with the position of its first."""
    for at in range(0, len(pixels), size):
        images = to_images(pixels[at : at + size])
        yield at, images.contiguous(memory_format=torch.channels_last)


def draw_images(pixels: Tensor, kind: Kind, num: int, generator: torch.Generator) -> Images:
    """A batch of pictures drawn with replacement, each in a harmless variation."""
    chosen = torch.randint(len(pixels), (num,), generator=generator)
    images = augment(to_images(pixels[chosen.to(pixels.device)]), kind, generator)
    return images.contiguous(memory_format=torch.channels_last)


def descend(fitting: Fitting, loss: Tensor, options: FitOptions) -> None:
    """One step of the optimizer at the pace of the schedule. Raises DivergenceError."""
    _check_finite("loss", loss.item(), fitting.step)
    for group in fitting.optimizer.param_groups:
        group["lr"] = options.learning_rate * pace(fitting.step, options)
    fitting.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(fitting.network.parameters(), 1.0)
    fitting.optimizer.step()


def _check_finite(name: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise DivergenceError(f"the {name} is {value} at step {step}; use a lower learning rate")


def pace(step: int, options: FitOptions) -> float:
    """Share of the learning rate at a step: a linear rise, then a cosine fall to 0.05."""
    rise = min(1.0, (step + 1) / max(1, options.num_rise_steps))
    return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * step / options.num_steps)) / 2)


def is_interval(step: int, options: FitOptions) -> bool:
    """Whether a record is due behind this step."""
    return step % options.interval_steps == 0 or step == options.num_steps


def _step_seed(seed: int, step: int) -> int:
    # Far apart for neighbouring seeds, so that their steps never meet.
    return seed * 1_000_003 + step


def generator_of(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, whatever came before it."""
    return torch.Generator().manual_seed(_step_seed(seed, step))


class Interval:
    """Sums over the steps between two records."""

    def __init__(self, num_codes: int) -> None:
        self.start_s = time.perf_counter()
        self.num_codes = num_codes
        self.losses: list[Tensor] = []
        self.num_images = 0
        self.histogram: Tensor | None = None

    def add(self, loss: Tensor, codes: Codes | None, num_images: int) -> None:
        """One step."""
        self.losses.append(loss)
        self.num_images += num_images
        if codes is not None:
            counts = torch.bincount(codes.flatten(), minlength=self.num_codes)
            self.histogram = counts if self.histogram is None else self.histogram + counts

    def record(self, stage: str, step: int, options: FitOptions, held_out: float) -> Record:
        """The interval's means, now that it ends."""
        seconds = time.perf_counter() - self.start_s
        used, perplexity = 0, 0.0
        if self.histogram is not None:
            share = self.histogram / self.histogram.sum()
            used = int((share > 0).sum())
            perplexity = torch.special.entr(share).sum().exp().item()
        return Record(
            stage=stage,
            step=step,
            num_steps=options.num_steps,
            images_per_s=self.num_images / seconds,
            loss=torch.stack(self.losses).mean().item(),
            held_out=held_out,
            codes_used=used,
            perplexity=perplexity,
        )
