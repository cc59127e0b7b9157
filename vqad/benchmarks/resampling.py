"""The detector's resampling compared with slower algorithms: passes, times, and agreement.

Algorithms are timed in turn on the same maps, in the same batches, with the same threads, so that
other load of the machine affects all of them alike.
"""

from typing import Any

import torch

from vqad.array_types import Codes, Logits
from vqad.benchmarks.machine import Say, Stopwatch
from vqad.detector import Detector
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import (
    CLOSE,
    CLOSE_IN_BFLOAT16,
    Resampled,
    decide,
    likelihood_of,
    may_change,
)
from vqad.model.resample_reference import agreement, jump, raster


class _Remembering:
    """A prior that repeats a pass only if a code has changed since the last one."""

    def __init__(self, prior: PixelSNAIL) -> None:
        self.prior = prior
        self.codes = self.logits = torch.empty(0, device=prior.embedding.weight.device)

    def __call__(self, codes: Codes) -> Logits:
        if not torch.equal(self.codes, codes):
            self.codes, self.logits = codes.clone(), self.prior(codes)
        return self.logits


@torch.inference_mode()
def resample(
    detector: Detector, codes: Codes, *, batch_size: int, raster_cells: int, say: Say
) -> dict[str, Any]:
    """Compare the detector's algorithm with `raster` and `jump` on code maps.

    Codes are compared with those of `raster` on all maps, one map at a time, where a pass is
    repeated only after a code has changed. Times are for the maps in which something changes, in
    equal batches. The time of `raster` is extrapolated from its first ``raster_cells`` cells.
    """
    prior, options = detector.prior, detector.settings.resample
    closeness = CLOSE_IN_BFLOAT16 if detector.settings.precision == "bfloat16" else CLOSE
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
        agreement(prior, inputs, slow, quick, options, closeness=closeness)
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
    """Seconds of each algorithm per map, measured in turn on the same batches."""
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
    # Extrapolated from the cells that were timed.
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
