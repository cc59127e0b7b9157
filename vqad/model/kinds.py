"""The three kinds of product, and the symmetries of the square that each of them has (4.3.1)."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

Kind = Literal["texture", "rotatable_object", "object"]


def given_kind(category: str, given: Mapping[str, str]) -> Kind | None:
    """The kind that is given for a category, if any. Raises ValueError if there is no such kind."""
    kind = given.get(category)
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(
            f"kind of {category} must be one of {', '.join(get_args(Kind))}, got {kind}"
        )
    return kind  # type: ignore[return-value]


def variations(kind: Kind) -> int | None:
    """The number of different variations of an image; None if it is infinite."""
    return 8 if kind == "rotatable_object" else None


def nth_symmetry(picture: Tensor, n: int) -> Tensor:
    """The n-th of the eight rotations and flips of a square picture (..., side, side)."""
    turned = torch.rot90(picture, n % 4, (-2, -1))
    return turned.flip(-1) if n >= 4 else turned
