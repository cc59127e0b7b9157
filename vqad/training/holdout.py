"""Which normal images are held out from fitting."""

import re
from collections.abc import Sequence

import numpy as np

from vqad.detection.settings import Settings
from vqad.images import listing
from vqad.storage.uris import encoded
from vqad.training.dataset import good_images

SHARE_HELD_OUT = 0.1


FEWEST_HELD_OUT = 10  # fewer than this set a threshold that one odd image decides; a warning


def hold_out(names: Sequence[str], *, seed: int, group: str | None = None) -> list[int]:
    """Positions of the tenth of the images that is kept from training, at least one.

    ``group`` is a pattern whose first group names what must stay on one side, such as the part in
    several exposures of it; a name that it does not match is a group of its own.
    """
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found = re.search(group, name) if group else None
        groups.setdefault((found and found.group(1)) or name, []).append(position)
    if len(groups) < 2:
        raise ValueError(
            f"{len(names)} images in {len(groups)} group(s): at least 2 are needed, "
            "one to learn from and one to hold out"
        )
    # Sorted first: the choice hangs on names and seed, not on the order of a listing.
    order = sorted(groups)
    np.random.default_rng(seed).shuffle(order)
    held_out: list[int] = []
    for name in order[: len(order) - 1]:
        if held_out and len(held_out) >= round(SHARE_HELD_OUT * len(names)):
            break
        held_out += groups[name]
    return sorted(held_out)


def check_group(pattern: str) -> None:
    """Refuse a pattern that could never name a group."""
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"heldout_group {pattern!r} is no pattern: {error}") from error
    if not num_groups:
        raise ValueError(
            f"heldout_group needs a group that names what stays together, such as "
            f"'(part[0-9]+)_', got {pattern!r}"
        )


def split(data: str, settings: Settings) -> tuple[list[str], list[listing.Listed]]:
    """URIs of a detector's held-out images as they lie below ``data``, and all other good ones.

    The detector may have been fitted elsewhere: what counts is the path below the category.
    Raises ValueError where a held-out image is not there.
    """
    marker = f"/{encoded(settings.category)}/"
    listed = good_images(data, settings.category)
    by_path = {each.image.rpartition(marker)[2]: each for each in listed}
    wanted = [image.rpartition(marker)[2] for image in settings.found.held_out]
    missing = [path for path in wanted if path not in by_path]
    if missing or not wanted:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} held-out images of the {settings.category} detector "
            f"are not in {data}{f', the first: {missing[0]}' if missing else ''}; give as --data "
            "what it was trained on"
        )
    held_out = [by_path[path].image for path in wanted]
    return held_out, [each for each in listed if each.image not in set(held_out)]
