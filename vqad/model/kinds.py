"""The three kinds of product, and the symmetries of the square that each of them has (4.3.1)."""

from typing import Literal, get_args

import torch
from torch import Tensor

Kind = Literal["texture", "rotatable_object", "object"]


# MVTec AD's categories (4.3.1); any other is an `object` unless its kind is given.
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("carpet", "grid", "leather", "tile", "wood"), "texture"),
    **dict.fromkeys(("bottle", "hazelnut", "metal_nut", "screw"), "rotatable_object"),
    **dict.fromkeys(("cable", "capsule", "pill", "toothbrush", "transistor", "zipper"), "object"),
}


def kind_of(category: str, given: dict[str, str] | None = None) -> Kind:
    """The kind of a category: as given, else as MVTec AD's, else `object`."""
    kind = (given or {}).get(category, KINDS.get(category, "object"))
    if kind not in get_args(Kind):
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
