"""The definition of resampling (section 3.3, eq. 5) and slower exact algorithms: the oracles."""

from typing import NamedTuple

import torch

from vqad.array_types import Cells, Codes, Logits
from vqad.model.resample import (
    CLOSE,
    Prior,
    Resampled,
    ResampleOptions,
    decide,
    likelihood_of,
    may_change,
)


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
