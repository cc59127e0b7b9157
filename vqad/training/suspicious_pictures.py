"""Pictures among good images that look like masks: two levels, or far fewer than the rest."""

from collections.abc import Sequence
from typing import Final

import numpy as np

MOST_LEFT_OUT: Final = 0.1  # share of the images; with more, the folder is not one of good images
# A guess. Among the good images of seven products, every image had at least half of the usual
# number of values (2026-11-26).
_FAR_FEWER: Final = 1 / 8


def reasons(num_values: Sequence[int]) -> dict[int, str]:
    """Reasons by position, from the number of different values in each picture."""
    # At most as many as 8 bits have, so that images of 8 and of 16 bits can be compared.
    counts = [min(each, 256) for each in num_values]
    usual = int(np.median(counts)) if counts else 0
    found = {}
    for position, num in enumerate(counts):
        if num <= 2:
            found[position] = f"only {num} different values, as in a mask"
        elif num < _FAR_FEWER * usual:
            found[position] = f"only {num} different values, where {usual} are usual"
    return found


def check_few(suspicious: Sequence[str], num_images: int) -> None:
    """Raise ValueError if so many pictures look like masks that the others may be no good either.

    ``suspicious`` are lines with a name and a reason.
    """
    if len(suspicious) > MOST_LEFT_OUT * num_images:
        raise ValueError(
            f"{len(suspicious)} of {num_images} images look like masks, the first: {suspicious[0]}"
            "; move them out of the folder, or give --good-pattern with a regular expression that "
            "only the paths of good images match"
        )
