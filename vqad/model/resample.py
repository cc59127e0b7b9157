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

from vqad.array_types import (
    Cells,
    Codes,
    Likelihood,
    Logits,
    SomeCells,
    SomeCodes,
    SomeLikelihood,
    SomeLogits,
)
from vqad.model.finite import check_finite

Prior = Callable[[Codes], Logits]


@runtime_checkable
class Incremental(Protocol):
    """A prior that resumes a pass at a later cell, such as `IncrementalPrior`."""

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
def in_runs(
    prior: Incremental, inputs: Codes, options: ResampleOptions, *, width: int = RUN_WIDTH
) -> Resampled:
    """The rule on runs of ``width`` cells, each map where it has got to, from a guess onwards.

    The guess is what the rule last said of each cell. Up to the first cell of a run where it now
    says otherwise all is settled, that cell included, for its context was; the next run begins
    behind it. Nothing can change behind the last cell that may, so there a map is done.
    """
    logits, kept = prior.begin(inputs)
    likelihood = likelihood_of(logits, inputs)
    check_finite("the likelihoods of the codes", likelihood)
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
        check_finite("the logits of the prior", logits)
        run = settled[:, None] + 1 + torch.arange(size, device=codes.device)
        at = active[:, None], run.clamp(max=num_cells - 1)
        wanted = decide(logits, inputs[at], allowed[at], options)
        moved = wanted != codes[at]
        codes[at] = wanted
        settled += torch.where(moved.any(1), moved.int().argmax(1) + 1, size)
        passes[active.cpu()] += size / num_cells
