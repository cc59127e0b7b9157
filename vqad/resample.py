"""Resampling: codes that the prior finds improbable give way to its own best ones (3.3, eq. 5).

Cell by cell in raster order: the input code stays if the prior, having seen the cells before as
they now are, finds it probable enough, or if no neighbour still to come is improbable too; else
the most probable code takes its place. ``raster`` is that sentence and costs a pass of the prior
a cell. The others give the same codes with fewer passes: ``jump`` goes from change to change,
``fixed_point`` applies the rule everywhere at once until nothing moves, which is exact because a
cell depends on cells before it alone (Song et al. 2021; Wiggers & Hoogeboom 2020). ``in_runs``
does so in a short run of cells at a time and never computes a settled cell again: about two
passes' worth of cells for an image in which something changes, one for any other.

All ask for functions from codes to logits, not for a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from vqad.shapes import (
    Cells,
    Codes,
    Likelihood,
    Logits,
    SomeCells,
    SomeCodes,
    SomeLikelihood,
    SomeLogits,
)

Prior = Callable[[Codes], Logits]


@runtime_checkable
class Resumable(Protocol):
    """A prior whose passes can be taken up again; `vqad.resumed.ResumablePrior` is one."""

    def begin(self, codes: Codes) -> tuple[Logits, Any]:
        """A pass over whole maps, and what it keeps; ``of`` narrows that to some of the maps."""
        ...

    def resume(self, kept: Any, codes: Tensor, start: Tensor, width: int) -> Tensor:
        """Logits (maps, codes, width) of the cells from ``start`` (maps,) on."""
        ...


# Cells in a run. Short runs waste fewer cells after a wrong guess, long ones cost fewer calls.
RUN_WIDTH = 32

# Two likelihoods nearer than this (relative) are not told apart by float32 kernels, whose last
# bits differ with the batch size.
CLOSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class ResampleOptions:
    """When a code gives way."""

    eta: float = 5e-4  # likelihood under which a code is improbable (4.3.3)
    local_constraint: bool = True  # ask a neighbour still to come too; False is fig. 8's ablation

    def __post_init__(self) -> None:
        """Refuse an eta that is no likelihood."""
        if not 0 <= self.eta < 1:
            raise ValueError(f"eta must be in [0, 1), got {self.eta}")


class Resampled(NamedTuple):
    """Resampled codes c, and what they cost."""

    codes: Codes
    likelihood: Likelihood  # L, of the input codes under themselves
    passes: Tensor  # (batch,) float32: cells computed over cells in the map


def likelihood_of(logits: SomeLogits, codes: SomeCodes) -> SomeLikelihood:
    """Probability of each code, in float32, of whole maps or of runs of cells."""
    chosen = torch.log_softmax(logits.float(), 1).gather(1, codes[:, None])
    return chosen[:, 0].exp()


def may_change(likelihood: Likelihood, options: ResampleOptions) -> Cells:
    """Cells with I(m, n) < eta: some neighbour right, down-left, down or down-right is improbable.

    Neighbours outside the map do not count, so the last cell may never change. Without the local
    constraint every cell may.
    """
    if not options.local_constraint:
        return torch.ones_like(likelihood, dtype=torch.bool)
    low = torch.nn.functional.pad(likelihood < options.eta, (1, 1, 0, 1))
    right = low[:, :-1, 2:]
    below = low[:, 1:, :-2] | low[:, 1:, 1:-1] | low[:, 1:, 2:]
    return right | below


def decide(
    logits: SomeLogits,
    inputs: SomeCodes,
    allowed: SomeCells,
    options: ResampleOptions,
) -> SomeCodes:
    """Eq. 5 at every cell, given the logits under some prefix. The test is of the input code."""
    improbable = likelihood_of(logits, inputs) < options.eta
    return torch.where(improbable & allowed, logits.argmax(1), inputs)


@torch.no_grad()
def raster(prior: Prior, inputs: Codes, options: ResampleOptions) -> Resampled:
    """Eq. 5 as it is defined: a full pass for every cell. Slow and obvious; the oracle."""
    likelihood = likelihood_of(prior(inputs), inputs)
    allowed = may_change(likelihood, options)
    codes = inputs.clone()
    _, rows, cols = inputs.shape
    for row in range(rows):
        for col in range(cols):
            codes[:, row, col] = decide(prior(codes), inputs, allowed, options)[:, row, col]
    # The first pass serves the local constraint and the first cell, whose context is empty.
    return Resampled(codes, likelihood, torch.full((len(inputs),), float(rows * cols)))


@torch.no_grad()
def jump(prior: Prior, inputs: Codes, options: ResampleOptions) -> Resampled:
    """A pass, then straight to the next cell that changes: 1 + changed cells passes an image."""
    logits = prior(inputs)
    likelihood = likelihood_of(logits, inputs)
    allowed = may_change(likelihood, options)
    codes, passes = inputs.clone(), torch.ones(len(inputs))
    active = torch.arange(len(inputs), device=inputs.device)
    # Last settled cell of each map, in raster order.
    done = torch.full((len(inputs),), -1, device=inputs.device)
    cells = torch.arange(inputs[0].numel(), device=inputs.device)
    while True:
        wanted = decide(logits, inputs[active], allowed[active], options).flatten(1)
        moves = (wanted != codes[active].flatten(1)) & (cells > done[active, None])
        changed = moves.any(1)
        active = active[changed]
        if not len(active):
            return Resampled(codes, likelihood, passes)
        first = moves[changed].int().argmax(1)
        codes.view(len(inputs), -1)[active, first] = wanted[changed].gather(1, first[:, None])[:, 0]
        done[active] = first
        passes[active.cpu()] += 1
        logits = prior(codes[active])


@torch.no_grad()
def fixed_point(prior: Prior, inputs: Codes, options: ResampleOptions) -> Resampled:
    """The rule at all cells at once, from the codes as they are, until none moves."""
    logits = prior(inputs)
    likelihood = likelihood_of(logits, inputs)
    allowed = may_change(likelihood, options)
    codes, passes = inputs.clone(), torch.ones(len(inputs))
    active = torch.arange(len(inputs), device=inputs.device)
    # Cell n is right after sweep n at the latest, so the bound is never what ends the loop, but
    # for likelihoods that sit on eta and fall to either side with the size of the batch.
    for _ in range(inputs[0].numel() + 1):
        wanted = decide(logits, inputs[active], allowed[active], options)
        moved = (wanted != codes[active]).flatten(1).any(1)
        active = active[moved]
        if not len(active):
            break
        codes[active] = wanted[moved]
        passes[active.cpu()] += 1
        logits = prior(codes[active])
    return Resampled(codes, likelihood, passes)


@torch.no_grad()
def in_runs(
    prior: Resumable, inputs: Codes, options: ResampleOptions, *, width: int = RUN_WIDTH
) -> Resampled:
    """The rule on runs of ``width`` cells, each map where it has got to, from a guess onwards.

    The guess is what the rule last said of each cell. Up to the first cell of a run where it now
    says otherwise all is settled, that cell included, for its context was; the next run begins
    behind it. Nothing can change behind the last cell that may, so there a map is done.
    """
    logits, kept = prior.begin(inputs)
    likelihood = likelihood_of(logits, inputs)
    shape, allowed = inputs.shape, may_change(likelihood, options)
    codes = decide(logits, inputs, allowed, options).flatten(1)
    inputs, allowed, passes = inputs.flatten(1), allowed.flatten(1), torch.ones(len(inputs))
    num_cells = inputs.shape[1]
    changed = codes != inputs
    active = changed.any(1).nonzero()[:, 0]
    kept = kept.of(active)
    settled = changed[active].int().argmax(1)
    last = (allowed[active] * torch.arange(num_cells, device=codes.device)).amax(1)
    while True:
        going = (settled < last).nonzero()[:, 0]
        if not len(going):
            return Resampled(codes.view(shape), likelihood, passes)
        if len(going) < len(active):
            active, settled, last, kept = active[going], settled[going], last[going], kept.of(going)
        size = min(width, int((last - settled).max()))
        logits = prior.resume(kept, codes[active], settled + 1, size)
        run = settled[:, None] + 1 + torch.arange(size, device=codes.device)
        at = active[:, None], run.clamp(max=num_cells - 1)
        wanted = decide(logits, inputs[at], allowed[at], options)
        moved = wanted != codes[at]
        codes[at] = wanted
        settled += torch.where(moved.any(1), moved.int().argmax(1) + 1, size)
        passes[active.cpu()] += size / num_cells


class Agreement(NamedTuple):
    """How two resamplings of the same maps compare, counted by image."""

    num_same: int
    num_ties: int  # differ from a cell on that float32 cannot settle; what follows may differ too
    num_different: int  # differ without that excuse


@torch.no_grad()
def agreement(
    prior: Prior, inputs: Codes, oracle: Codes, other: Codes, options: ResampleOptions
) -> Agreement:
    """Compare by the rule that a first difference is excused where it hangs on the last bits."""
    differs = (oracle != other).flatten(1)
    different = differs.any(1).nonzero()[:, 0]
    if not len(different):
        return Agreement(len(inputs), 0, 0)
    first = differs[different].int().argmax(1)
    close = close_calls(prior(oracle[different]), inputs[different], options).flatten(1)
    num_ties = int(close.gather(1, first[:, None]).sum())
    return Agreement(len(inputs) - len(different), num_ties, len(different) - num_ties)


def close_calls(logits: Logits, inputs: Codes, options: ResampleOptions) -> Cells:
    """Cells where the likelihood is within CLOSE of eta, or the two best codes are that near."""
    on_the_edge = (likelihood_of(logits, inputs) - options.eta).abs() <= CLOSE * options.eta
    best = logits.float().topk(2, dim=1).values
    return on_the_edge | (best[:, 0] - best[:, 1] <= CLOSE)
