"""The speed of fitting both networks, stage by stage, and the time of whole categories.

The stages are the training loops themselves, with few steps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vqad.benchmarks import inspection, machine
from vqad.benchmarks.machine import Say, Stopwatch
from vqad.images.tensors import to_images, to_tensor
from vqad.model.bfloat16 import has_instructions
from vqad.model.kinds import Kind, variations
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.vqvae import VQVAE
from vqad.training.dry_run import Foreseen
from vqad.training.holdout import SHARE_HELD_OUT
from vqad.training.job import TrainJob
from vqad.training.loop import FitOptions, Fitting, Record
from vqad.training.networks import code_maps, encode, fit_prior, fit_vqvae
from vqad.training.presets import PRESETS, Preset

_NUM_HELD_OUT = 4


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Images per second of each stage, and operations relative to plain matrix products."""

    vqvae: float
    encode: float
    prior: float
    calibrate: float
    matrix_product_flops: float  # operations per second, in the number format of the fits
    share_vqvae: float
    share_prior: float


def measure(preset_name: str, pixels: np.ndarray, *, kind: Kind, num_steps: int) -> Rates:
    """Time ``num_steps`` steps of each fit, after as many to warm up, on these pixels."""
    preset = PRESETS[preset_name]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = to_tensor(pixels).to(device)
    torch.manual_seed(0)
    vqvae, prior = VQVAE(preset.vqvae).to(device), PixelSNAIL(preset.prior).to(device)
    held_out = every[:_NUM_HELD_OUT]

    def vqvae_records(options: FitOptions) -> Iterator[Record]:
        fitting = Fitting.begin(vqvae, options)
        return fit_vqvae(fitting, every, held_out, kind=kind, options=options, seed=0)

    vqvae_rate, vqvae_flops = _rate(vqvae_records, preset.fit_vqvae, num_steps)
    watch = Stopwatch()
    with watch.timed("encode"):
        maps = code_maps(vqvae, every, kind=kind, num_variations=1, seed=0)
    codes = encode(vqvae, held_out)

    def prior_records(options: FitOptions) -> Iterator[Record]:
        return fit_prior(Fitting.begin(prior, options), maps, codes, options=options, seed=0)

    prior_rate, prior_flops = _rate(prior_records, preset.fit_prior, num_steps)
    machine_flops = machine.matrix_product_flops(
        dtype=torch.bfloat16 if has_instructions(device) else torch.float32
    )
    return Rates(
        vqvae=vqvae_rate,
        encode=len(maps) / watch.seconds["encode"],
        prior=prior_rate,
        calibrate=_calibration_rate(preset_name, every),
        matrix_product_flops=machine_flops,
        share_vqvae=vqvae_rate * vqvae_flops / machine_flops,
        share_prior=prior_rate * prior_flops / machine_flops,
    )


def _rate(
    records_of: Callable[[FitOptions], Iterator[Record]], budget: FitOptions, num_steps: int
) -> tuple[float, float]:
    """Images per second, and operations per image, of a fit after its warm-up."""
    short = replace(
        budget, num_steps=3 * num_steps, interval_steps=num_steps, num_warmup_steps=0, patience=0
    )
    records = records_of(short)
    next(records)
    rate = next(records).images_per_s
    # Not counted and timed in one call: the counter itself takes time.
    with FlopCounterMode(display=False) as counter:
        next(records)
    return rate, counter.get_total_flops() / (num_steps * budget.batch_size)


def _calibration_rate(preset_name: str, pixels: torch.Tensor) -> float:
    """Images per second of inspecting held-out images with a random detector."""
    detector = inspection.random_detector(preset_name).to(pixels.device)
    batch = to_images(pixels[:16])
    detector = inspection.with_some_changes(
        detector, inspection.encode(detector, batch, len(batch))
    )
    watch = Stopwatch()
    with watch.timed("inspect"):
        detector.inspect(batch)
    return len(batch) / watch.seconds["inspect"]


def seconds_of_category(rates: Rates, preset: Preset, *, num_images: int, kind: Kind) -> float:
    """Seconds of training on so many images at these rates, with all steps of the prior."""
    num_held_out = max(1, round(SHARE_HELD_OUT * num_images))
    num_variations = min(preset.fit_prior.variations_per_image, variations(kind) or np.inf)
    return float(
        preset.fit_vqvae.num_steps * preset.fit_vqvae.batch_size / rates.vqvae
        + (num_images - num_held_out) * num_variations / rates.encode
        + preset.fit_prior.num_steps * preset.fit_prior.batch_size / rates.prior
        + num_held_out / rates.calibrate
    )


def seconds_of(job: TrainJob, found: Sequence[Foreseen], say: Say) -> dict[str, dict[str, float]]:
    """Seconds that the fits of a dry run would take, by category, at rates of this machine.

    The rates are those of one step of each network after one to warm up, on a few images of the
    first category. Local statistics and segmenter of the form full are not counted.
    """
    usable = [one for one in found if not one.failed and one.pixels is not None]
    if not usable:
        return {}
    first = usable[0]
    assert first.pixels is not None
    name = job.options[0].preset
    rates = measure(name, first.pixels, kind=first.kind, num_steps=1)
    seconds = {}
    for one in usable:
        each = seconds_of_category(rates, PRESETS[name], num_images=len(one.listed), kind=one.kind)
        seconds[one.category] = {"seconds": round(each, 1)}
        say(
            f"{one.category}: about {each / 60:.1f} minutes for the networks by themselves, with "
            "this machine as busy as it is now; local statistics and segmenter of the form full "
            "come on top"
        )
    return seconds
