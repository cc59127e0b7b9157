"""The state of one network's fit: its budget, everything that a restart needs, its records."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vqad.array_types import Codes
from vqad.model.bfloat16 import has_instructions
from vqad.storage.errors import VqadError
from vqad.training import data_parallel
from vqad.training.augment import Jitter


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Budget and pace of one network's fit. Budgets count optimizer steps, not epochs."""

    num_steps: int
    batch_size: int
    learning_rate: float = 3e-4  # 4.3.2; of Adam, at its highest
    num_rise_steps: int = 20  # linear rise before the cosine fall to a twentieth
    interval_steps: int = 20  # steps between two records
    num_warmup_steps: int = 0  # VQ-VAE only: without the lookup, before k-means
    variations_per_image: int = 8  # prior only: augmented code maps per image
    patience: int = 0  # prior only: intervals without improvement before it stops; 0 = never
    light: float = 0.0  # largest change of light in augmentation, see `Jitter`
    shift: float = 0.0  # largest shift in augmentation, see `Jitter`

    def __post_init__(self) -> None:
        """Refuse budgets with which nothing can be fitted."""
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
        _ = self.jitter  # refuses changes that are not small

    @property
    def jitter(self) -> Jitter:
        """Small changes of the images, beside the variations of their kind."""
        return Jitter(light=self.light, shift=self.shift)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Measurements of one interval of a fit."""

    stage: str  # vqvae or prior
    step: int
    num_steps: int
    images_per_s: float
    loss: float  # mean over the interval
    held_out: float  # VQ-VAE: mean squared error in [-1, 1]; prior: nats per code
    codes_used: int  # VQ-VAE: distinct codes over the interval
    perplexity: float  # VQ-VAE: exp of the entropy of the codes over the interval

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class CollapseError(VqadError, ValueError):
    """The VQ-VAE uses so few codes that a prior over them would learn nothing."""


class DivergenceError(VqadError, ValueError):
    """The loss is not finite."""


@dataclass(kw_only=True)
class Fitting:
    """A network that is being fitted, with everything that a restart needs."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf  # prior only: lowest held-out nats per code, and its weights
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    num_since_best: int = 0

    @classmethod
    def begin(cls, network: nn.Module, options: FitOptions) -> "Fitting":
        """Begin with the network's present weights."""
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rate = options.learning_rate
        return cls(network=network, optimizer=torch.optim.Adam(network.parameters(), lr=rate))

    def state(self) -> dict[str, Any]:
        """All fields, as tensors and plain values that load with ``weights_only=True``."""
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


def autocast(device: torch.device) -> torch.autocast:
    """Automatic bfloat16 where that is faster, else a context without effect."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_instructions(device))


def descend(fitting: Fitting, loss: Tensor, options: FitOptions, weight: float = 1.0) -> Tensor:
    """Take one optimizer step with the scheduled learning rate; returns the whole batch's loss.

    ``loss`` is the mean over this worker's part of the batch, and ``weight`` is that part's share
    of the batch. Raises DivergenceError on all workers or on none.
    """
    fitting.optimizer.zero_grad()
    (loss * weight).backward()
    whole = data_parallel.add_up_gradients(fitting.network, loss.detach() * weight)
    _take_step(fitting, whole, options, name="loss")
    return whole


def descend_alone(fitting: Fitting, loss: Tensor, options: FitOptions, *, name: str) -> None:
    """Take one optimizer step of a fit in which no other worker has a part.

    It exchanges nothing with other workers, which would wait for an answer forever. ``name`` is
    that of the loss. Raises DivergenceError.
    """
    fitting.optimizer.zero_grad()
    loss.backward()
    _take_step(fitting, loss.detach(), options, name=name)


def _take_step(fitting: Fitting, loss: Tensor, options: FitOptions, *, name: str) -> None:
    check_finite(name, loss.item(), fitting.step)
    for group in fitting.optimizer.param_groups:
        group["lr"] = options.learning_rate * pace(fitting.step, options)
    nn.utils.clip_grad_norm_(fitting.network.parameters(), 1.0)
    fitting.optimizer.step()


def check_finite(name: str, value: float, step: int) -> None:
    """Raise DivergenceError if a value is infinite or not a number."""
    if not math.isfinite(value):
        raise DivergenceError(
            f"the {name} is {value} at step {step}; try another --seed, or another --preset"
        )


def pace(step: int, options: FitOptions) -> float:
    """Share of the learning rate at a step: a linear rise, then a cosine fall to 0.05."""
    rise = min(1.0, (step + 1) / max(1, options.num_rise_steps))
    return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * step / options.num_steps)) / 2)


def is_interval(step: int, options: FitOptions) -> bool:
    """True if a record is due after this step."""
    return step % options.interval_steps == 0 or step == options.num_steps


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's random numbers."""
    # Neighbouring seeds are far apart, so that two fits never share the numbers of a step.
    return seed * 1_000_003 + step


def generator_of(seed: int, step: int) -> torch.Generator:
    """A generator for one step, independent of the steps before it, so that a fit can resume."""
    return torch.Generator().manual_seed(step_seed(seed, step))


class Interval:
    """Sums over the steps between two records."""

    def __init__(self, num_codes: int) -> None:
        self.start_s = time.perf_counter()
        self.num_codes = num_codes
        self.losses: list[Tensor] = []
        self.num_images = 0
        self.histogram: Tensor | None = None

    def add(self, loss: Tensor, codes: Codes | None, num_images: int) -> None:
        """Add one step."""
        self.losses.append(loss)
        self.num_images += num_images
        if codes is not None:
            counts = torch.bincount(codes.flatten(), minlength=self.num_codes)
            self.histogram = counts if self.histogram is None else self.histogram + counts

    def record(self, stage: str, step: int, options: FitOptions, held_out: float) -> Record:
        """The means over the interval; call it at the interval's end."""
        seconds = time.perf_counter() - self.start_s
        used, perplexity = 0, 0.0
        if self.histogram is not None:
            data_parallel.add_up(self.histogram)
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
