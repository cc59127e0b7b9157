"""How fast, against what: what `vqad bench` measures in one process, without Ray.

Algorithms are timed in turn on the same maps, in the same batches, with the same threads, so that
whatever else a machine does meanwhile falls on all of them.
"""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vqad import archives, images, score
from vqad.detector import Detector
from vqad.fit import to_images, to_tensor
from vqad.pixelsnail import PixelSNAIL
from vqad.presets import PRESETS
from vqad.resample import (
    Resampled,
    ResampleOptions,
    agreement,
    decide,
    jump,
    likelihood_of,
    may_change,
    raster,
)
from vqad.settings import Settings
from vqad.shapes import Codes, Images, Logits
from vqad.surprise import Form, unknown
from vqad.vqvae import VQVAE

Say = Callable[[str], None]

RANDOM = "random"  # the category of a detector of random weights


def random_detector(preset: str) -> Detector:
    """A detector of a preset's sizes with random weights: it costs what a fitted one does a pass.

    Its eta is set when codes are there, by `with_some_changes`.
    """
    torch.manual_seed(0)
    sizes = PRESETS[preset]
    settings = Settings(
        category=RANDOM,
        kind="object",
        vqvae=sizes.vqvae,
        prior=sizes.prior,
        resample=ResampleOptions(),
        threshold=1.0,
        minimum_area_px=sizes.vqvae.cell_area_px,
    )
    return Detector(VQVAE(sizes.vqvae), PixelSNAIL(sizes.prior), settings)


def in_form(detector: Detector, form: Form | None) -> Detector:
    """The detector under another form of map. Raises ValueError where it never was calibrated."""
    if form is None or form == detector.settings.form:
        return detector
    settings = detector.settings
    # Random weights have nothing usual; a fitted plain detector has, and nobody looked for it.
    usual = unknown(settings.vqvae.latent_size) if settings.category == RANDOM else settings.usual
    return detector.with_settings(form=form, usual=usual)


@torch.inference_mode()
def with_some_changes(detector: Detector, codes: Codes) -> Detector:
    """The detector with the eta under which a twentieth of these codes is improbable."""
    likelihood = likelihood_of(detector.prior(codes), codes)
    eta = float(likelihood.flatten().quantile(0.05))
    return detector.with_settings(resample=ResampleOptions(eta=eta))


def read_images(listed: Sequence[archives.Listed], size_px: int) -> Images:
    """Images (num, 3, size, size); one that can't be read ends the measurement with its error."""
    return _read(listed, size_px, Stopwatch())


@torch.inference_mode()
def encode(detector: Detector, pictures: torch.Tensor, batch_size: int) -> Codes:
    """Codes of images, a batch at a time."""
    batches = pictures.to(detector.device).split(batch_size)
    return torch.cat(
        [
            detector.vqvae.encode(each.contiguous(memory_format=torch.channels_last))
            for each in batches
        ]
    )


class _Remembering:
    """A prior that repeats a pass only where a code has changed since the last."""

    def __init__(self, prior: PixelSNAIL) -> None:
        self.prior, self.codes, self.logits = prior, torch.empty(0), torch.empty(0)

    def __call__(self, codes: Codes) -> Logits:
        if not torch.equal(self.codes, codes):
            self.codes, self.logits = codes.clone(), self.prior(codes)
        return self.logits


@torch.inference_mode()
def resample(
    detector: Detector, codes: Codes, *, batch_size: int, raster_cells: int, say: Say
) -> dict[str, Any]:
    """Compare the detector's algorithm with `raster` and `jump` on code maps.

    Codes are compared with the oracle's on all maps: `raster` on one map at a time, which repeats
    a pass only where a code has changed. Times are of the maps in which something changes, in
    batches alike; that of `raster` is of its first ``raster_cells`` cells, made up to all.
    """
    prior, options = detector.prior, detector.settings.resample
    fast = [detector.resample(each) for each in codes.split(batch_size)]
    found = Resampled(*(torch.cat(each) for each in zip(*fast, strict=True)))
    changed = (found.codes != codes).flatten(1).any(1)
    seconds = _paired(detector, codes[changed], batch_size, raster_cells)
    say(f"{int(changed.sum())} of {len(codes)} images have changes; now the oracle")
    oracle = torch.cat(
        [raster(_Remembering(prior), each, options).codes for each in codes.split(1)]
    )
    split = (each.split(batch_size) for each in (codes, oracle, found.codes))
    same = [
        agreement(prior, inputs, slow, quick, options)
        for inputs, slow, quick in zip(*split, strict=True)
    ]
    num_changed = (found.codes != codes).flatten(1).sum(1)[changed].float()
    _report_resample(seconds, found.passes, changed.cpu(), say)
    return {
        "identical": sum(each.num_different for each in same) == 0,
        "ties": sum(each.num_ties for each in same),
        "images": len(codes),
        "changed_images": int(changed.sum()),
        "codes_changed_mean": _mean(num_changed),
        "passes_mean": _mean(found.passes),
        "passes_changed_mean": _mean(found.passes[changed.cpu()]),
        "passes_max": float(found.passes.max()),
        "times_faster_than_raster": _ratio(seconds["raster"], seconds["in_runs"]),
        "times_faster_than_jump": _ratio(seconds["jump"], seconds["in_runs"]),
    }


def _paired(
    detector: Detector, codes: Codes, batch_size: int, raster_cells: int
) -> dict[str, float]:
    """Seconds of each algorithm over the same batches, in turn."""
    prior, options = detector.prior, detector.settings.resample
    watch = Stopwatch()
    watch.seconds.update(dict.fromkeys(("in_runs", "jump", "raster"), 0.0))
    if not len(codes):
        return watch.seconds
    num_cells = min(raster_cells, codes[0].numel())
    for batch in codes.split(batch_size):
        allowed = may_change(likelihood_of(prior(batch), batch), options)
        with watch.timed("in_runs"):
            detector.resample(batch)
        with watch.timed("jump"):
            jump(prior, batch, options)
        with watch.timed("raster"):
            for _ in range(num_cells):
                decide(prior(batch), batch, allowed, options)
    # The cells that were timed, made up to all.
    watch.seconds["raster"] *= codes[0].numel() / num_cells
    return {name: each / len(codes) for name, each in watch.seconds.items()}


def _report_resample(
    seconds: dict[str, float], passes: torch.Tensor, changed: torch.Tensor, say: Say
) -> None:
    say(f"{'':24}{'mean':>9}{'median':>9}{'max':>9}")
    for name, some in (("with changes", passes[changed]), ("without", passes[~changed])):
        if len(some):
            mean, median, most = some.mean(), some.quantile(0.5), some.max()
            say(f"{f'passes, images {name}':24}{mean:9.2f}{median:9.2f}{most:9.2f}")
    for name, each in seconds.items():
        say(f"{name:10} {each * 1000:10.1f} ms per image with changes")


def _mean(values: torch.Tensor) -> float | None:
    return round(float(values.float().mean()), 3) if len(values) else None


def _ratio(slow_s: float, fast_s: float) -> float | None:
    return round(slow_s / fast_s, 1) if fast_s else None


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Seconds by name, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add what the block takes to a name's."""
        _settle()
        start_s = time.perf_counter()
        yield
        _settle()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start_s


def _read(listed: Sequence[archives.Listed], size_px: int, watch: Stopwatch) -> Images:
    """Images of one batch; one that can't be read ends the measurement with its error."""
    with watch.timed("fetch"):
        data = [archives.read_bytes(each.image, max_bytes=images.MAX_BYTES) for each in listed]
    with watch.timed("decode"):
        pixels = [images.decode(each, size_px=size_px).pixels for each in data]
        return to_images(to_tensor(images.stack(pixels)))


def whole(
    detector: Detector, listed: Sequence[archives.Listed], *, batch_size: int
) -> dict[str, float]:
    """Seconds of fetch, decode and `Detector.inspect` over all images, in this process."""
    watch = Stopwatch()
    for at in range(0, len(listed), batch_size):
        size_px = detector.settings.vqvae.image_size_px
        batch = _read(listed[at : at + batch_size], size_px, watch)
        with watch.timed("inspect"):
            detector.inspect(batch)
    return watch.seconds


@torch.inference_mode()
def stages(
    detector: Detector, listed: Sequence[archives.Listed], *, batch_size: int
) -> tuple[dict[str, float], float]:
    """Seconds of each stage alone, and the networks' operations a second in `Detector.inspect`."""
    watch, flops = Stopwatch(), 0.0
    for at in range(0, len(listed), batch_size):
        size_px = detector.settings.vqvae.image_size_px
        batch = _read(listed[at : at + batch_size], size_px, watch)
        _networks(detector, batch, watch)
        # Counted apart from being timed: the counter itself takes time.
        with watch.timed("inspect"):
            detector.inspect(batch)
        with FlopCounterMode(display=False) as counter:
            detector.inspect(batch)
        flops += counter.get_total_flops()
    return watch.seconds, flops / watch.seconds.pop("inspect")


def _networks(detector: Detector, batch: Images, watch: Stopwatch) -> None:
    size_px = detector.settings.vqvae.image_size_px
    batch = batch.to(detector.device).contiguous(memory_format=torch.channels_last)
    with watch.timed("encode"):
        codes = detector.vqvae.encode(batch)
    with watch.timed("prior, one pass"):
        detector.prior(codes)
    with watch.timed("resample"):
        resampled = detector.resample(codes)
    if detector.settings.form == "joined":
        with watch.timed("other readings"):
            detector.surprises(batch, resampled.likelihood)
    with watch.timed("decode pair"):
        _, *pair = detector.changed_pairs(codes, resampled.codes)
    with watch.timed("filter and score"):
        for one, other in zip(*pair, strict=True):
            smoothed = score.smooth(score.difference(one, other), input_size_px=size_px)
            score.score(smoothed, minimum_area_px=detector.settings.minimum_area_px)


def matrix_product_flops(
    size: int = 2048, *, seconds: float = 1.0, dtype: torch.dtype = torch.float32
) -> float:
    """Floating-point operations a second of matrix products here, the best of many."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = torch.rand(2, size, size, device=device).to(dtype)
    best_s, give_up_s = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < give_up_s:
        watch = Stopwatch()
        with watch.timed("product"):
            left @ right
        best_s = min(best_s, watch.seconds["product"])
    return 2 * size**3 / best_s


def peak_bytes() -> int:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


__all__ = [
    "encode",
    "in_form",
    "matrix_product_flops",
    "peak_bytes",
    "random_detector",
    "read_images",
    "resample",
    "stages",
    "whole",
    "with_some_changes",
]
