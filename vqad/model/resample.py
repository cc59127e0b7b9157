"""Resampling: improbable codes are replaced by the prior's most probable ones (3.3, eq. 5).

The rule goes from cell to cell in raster order, and the prior sees the cells before as they now
are. The input code stays if it is probable enough, or if no later neighbour is improbable as well.
Otherwise the most probable code replaces it.

``raster`` in `vqad.model.resample_reference` does exactly this and needs a pass of the prior for
each cell. Other algorithms give the same codes with fewer passes: ``jump`` goes from change to
change, and ``fixed_point`` applies the rule to all cells at once until no code changes. That is
exact because a cell depends only on the cells before it (Song et al. 2021; Wiggers & Hoogeboom
2020). ``in_runs``, which detectors use, does the same in a short run of cells at a time and never
computes a settled cell again. It computes about as many cells as two passes for an image in which
something changes, and one pass for any other.

All of them take functions from codes to logits and no network, so a test needs none.
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
    """A prior that can resume a pass at a later cell, such as `IncrementalPrior`."""

    def begin(self, codes: Codes) -> tuple[Logits, Any]:
        """Make a pass over whole maps; returns logits, and a cache.

        Its ``of`` selects maps, and is free to overwrite the others.
        """
        ...

    def resume(self, cache: Any, codes: Tensor, start: Tensor, width: int) -> Tensor:
        """Logits (maps, codes, width) of the cells from ``start`` (maps,) on."""
        ...


# Cells in a run. Short runs waste fewer cells after a wrong guess, long ones need fewer calls.
RUN_WIDTH = 32
# On a GPU calls count for more: with 64 cells, an H200 resampled 23 % more images of a batch of 256
# in a second than with 32, and 45 % more of a batch of 64.
_RUN_WIDTH_ON_GPU = 64

# The likelihoods of so many cells are computed at once: their logits fit into a core's cache.
_CELLS_AT_ONCE = 1024

# Float32 kernels do not distinguish two likelihoods that are closer than this (relative): their
# last bits depend on the batch size.
CLOSE = 1e-5
# The same in bfloat16, where a sum in another order may be rounded in another direction: the
# largest difference was .036 on 16 images of bottle.
CLOSE_IN_BFLOAT16 = 0.05


@dataclass(frozen=True, kw_only=True)
class ResampleOptions:
    """The options that decide which codes are replaced."""

    eta: float = 5e-4  # a code with a smaller likelihood is improbable (4.3.3)
    local_constraint: bool = True  # require an improbable later neighbour; False: ablation, fig. 8

    def __post_init__(self) -> None:
        """Refuse an eta that is not a likelihood."""
        if not 0 <= self.eta < 1:
            raise ValueError(f"eta must be in [0, 1), got {self.eta}")


class Resampled(NamedTuple):
    """Resampled codes c, and the cost of computing them."""

    codes: Codes
    likelihood: Likelihood  # L, of the input codes under themselves
    passes: Tensor  # (batch,) float32: cells computed over cells in the map


def likelihood_of(logits: SomeLogits, codes: SomeCodes) -> SomeLikelihood:
    """Probability of each code in float32, for whole maps or for runs of cells."""
    rows = logits.movedim(1, -1).flatten(0, -2)  # a view, where the codes of a cell lie together
    some = zip(rows.split(_CELLS_AT_ONCE), codes.flatten().split(_CELLS_AT_ONCE), strict=True)
    return torch.cat([_log_likelihood(*each) for each in some]).view(codes.shape).exp()


def _log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """The same for cells (cells, codes of the codebook); infinite logits become NaN."""
    logits = logits.float()
    below = logits - logits.amax(1, keepdim=True)
    chosen = below.gather(1, codes[:, None])[:, 0]
    return chosen - below.exp_().sum(1).log()


def may_change(likelihood: Likelihood, options: ResampleOptions) -> Cells:
    """Cells with I(m, n) < eta: the neighbour right, down-left, down or down-right is improbable.

    Neighbours outside the map do not count, so the last cell never changes. Without the local
    constraint every cell may change.
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
    """Apply eq. 5 at every cell, given its logits; the likelihood tested is the input code's."""
    return _replaced(logits, inputs, (likelihood_of(logits, inputs) < options.eta) & allowed)


def _replaced(logits: SomeLogits, inputs: SomeCodes, cells: SomeCells) -> SomeCodes:
    """The codes with the most probable ones at these cells."""
    codes = inputs.clone()
    codes[cells] = logits.movedim(1, -1)[cells].argmax(-1)
    return codes


@torch.no_grad()
def in_runs(
    prior: Incremental, inputs: Codes, options: ResampleOptions, *, width: int | None = None
) -> Resampled:
    """Resample in runs of ``width`` cells; every map is at its own place.

    ``codes`` is a guess of the result: for each cell, what the rule gave when it was last applied.
    It is exact up to and including the cell ``settled``. A run applies the rule again to the cells
    after that one, with the guess as their context. Where the rule confirms the guess, the next
    cell had the right context, too. So all cells up to the first one that the rule changes are now
    exact, and also that cell itself, because its context was. The cells after it had a wrong code
    in their context, so the next run starts there. A map is done once its last changeable cell is
    settled.
    """
    width = width or (_RUN_WIDTH_ON_GPU if inputs.is_cuda else RUN_WIDTH)
    logits, cache = prior.begin(inputs)
    likelihood = likelihood_of(logits, inputs)
    check_finite("the likelihoods of the codes", likelihood)
    shape, allowed = inputs.shape, may_change(likelihood, options)
    codes = _replaced(logits, inputs, (likelihood < options.eta) & allowed).flatten(1)
    inputs, allowed, passes = inputs.flatten(1), allowed.flatten(1), torch.ones(len(inputs))
    num_cells = inputs.shape[1]
    changed = codes != inputs
    # Without any change the guess is confirmed as a whole, and the map needs no second pass.
    active = _moved_up(changed.any(1))
    cache = cache.of(active)
    settled = changed[active].int().argmax(1)
    last = (allowed[active] * torch.arange(num_cells, device=codes.device)).amax(1)
    while True:
        going = _moved_up(settled < last)
        if not len(going):
            return Resampled(codes.view(shape), likelihood, passes)
        if len(going) < len(active):
            active, settled, last, cache = (
                active[going],
                settled[going],
                last[going],
                cache.of(going),
            )
        # All runs of a batch have one size. Some go beyond the last changeable cell of their map:
        # those cells keep their input code, because they are not allowed to change.
        size = min(width, int((last - settled).max()))
        logits = prior.resume(cache, codes[active], settled + 1, size)
        check_finite("the logits of the prior", logits)
        run = settled[:, None] + 1 + torch.arange(size, device=codes.device)
        at = active[:, None], run.clamp(max=num_cells - 1)
        wanted = decide(logits, inputs[at], allowed[at], options)
        moved = wanted != codes[at]
        codes[at] = wanted
        settled += torch.where(moved.any(1), moved.int().argmax(1) + 1, size)
        passes[active.cpu()] += size / num_cells


def _moved_up(kept: Tensor) -> Tensor:
    """Positions of what is kept, such that most of it stays where it is: the last fill the gaps."""
    num = int(kept.sum())
    positions = torch.arange(num, device=kept.device)
    positions[~kept[:num]] = num + kept[num:].nonzero()[:, 0]
    return positions
