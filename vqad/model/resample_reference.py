"""The oracles for `resample.in_runs`: the definition (section 3.3, eq. 5), and slower algorithms.

Nothing but tests and benchmarks uses them.
"""

from dataclasses import replace
from typing import NamedTuple

import torch

from vqad.array_types import Cells, Codes, Likelihood, Logits
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
    """Apply eq. 5 as it is defined, with a full pass for every cell: slow, but evidently right."""
    likelihood = likelihood_of(prior(inputs), inputs)
    allowed = may_change(likelihood, options)
    codes = inputs.clone()
    _, rows, cols = inputs.shape
    for row in range(rows):
        for col in range(cols):
            codes[:, row, col] = decide(prior(codes), inputs, allowed, options)[:, row, col]
    # The pass for the local constraint also serves the first cell, whose context is empty.
    return Resampled(codes, likelihood, torch.full((len(inputs),), float(rows * cols)))


@torch.no_grad()
def jump(prior: Prior, inputs: Codes, options: ResampleOptions) -> Resampled:
    """Go from each changed cell to the next one: 1 pass per image and 1 per changed cell."""
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
    """Apply the rule to all cells at once until no code changes."""
    logits = prior(inputs)
    likelihood = likelihood_of(logits, inputs)
    allowed = may_change(likelihood, options)
    codes, passes = inputs.clone(), torch.ones(len(inputs))
    active = torch.arange(len(inputs), device=inputs.device)
    # Cell n is exact after pass n at the latest, so the bound ends the loop only if a likelihood is
    # so close to eta that it is above or below it depending on the batch size.
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
    """The comparison of two results of resampling the same maps, in images."""

    num_same: int
    num_ties: int  # the first difference is within rounding; later cells may differ, too
    num_different: int  # all others


@torch.no_grad()
def agreement(
    prior: Prior,
    inputs: Codes,
    oracle: Codes,
    other: Codes,
    options: ResampleOptions,
    *,
    closeness: float = CLOSE,
) -> Agreement:
    """Compare with the oracle; a first difference within rounding is a tie.

    ``closeness`` is that of two likelihoods (relative), or logits, which the prior's arithmetic
    does not distinguish.
    """
    differs = (oracle != other).flatten(1)
    different = differs.any(1).nonzero()[:, 0]
    if not len(different):
        return Agreement(len(inputs), 0, 0)
    first = differs[different].int().argmax(1)
    some = inputs[different]
    close = close_calls(prior(oracle[different]), some, options, closeness=closeness)
    close |= close_neighbours(likelihood_of(prior(some), some), options, closeness=closeness)
    close = close.flatten(1)
    num_ties = int(close.gather(1, first[:, None]).sum())
    return Agreement(len(inputs) - len(different), num_ties, len(different) - num_ties)


def close_calls(
    logits: Logits, inputs: Codes, options: ResampleOptions, *, closeness: float = CLOSE
) -> Cells:
    """Cells whose likelihood is close to eta, or the two best logits to each other."""
    distance = (likelihood_of(logits, inputs) - options.eta).abs()
    best = logits.float().topk(2, dim=1).values
    return (distance <= closeness * options.eta) | (best[:, 0] - best[:, 1] <= closeness)


def close_neighbours(
    likelihood: Likelihood, options: ResampleOptions, *, closeness: float = CLOSE
) -> Cells:
    """Cells that may change or not by a neighbour whose likelihood is close to eta."""
    least, most = (
        may_change(likelihood, replace(options, eta=options.eta * factor))
        for factor in (1 - closeness, 1 + closeness)
    )
    return least != most
