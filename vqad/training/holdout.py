"""The split of a category's good images into those to fit and those to hold out."""

from collections.abc import Collection, Sequence

import numpy as np

from vqad.detection.settings import Settings
from vqad.images import listing
from vqad.images.name_patterns import check_pattern
from vqad.storage.uris import encoded
from vqad.training.good_images import good_images
from vqad.training.local_statistics import group_names

SHARE_HELD_OUT = 0.1
FEWEST_HELD_OUT = 10  # with fewer, one odd image decides the threshold, so a warning is given


def hold_out(
    names: Sequence[str],
    *,
    seed: int,
    group: str | None = None,
    copies: Sequence[Sequence[int]] = (),
    learned: Collection[int] = (),
) -> list[int]:
    """Positions of the images that are not fitted: a tenth of them, at least one.

    ``group`` is a pattern. Images with the same first group stay on one side of the split, such as
    several exposures of one part. A name that it does not match is a group of its own. ``copies``
    are groups of positions that stay on one side as well, and count as one image each. ``learned``
    are positions that are always fitted, and so is the whole group of each.
    """
    groups = _groups(names, group, copies)
    if len(groups) < 2:
        raise ValueError(
            f"{len(names)} images in {len(groups)} group(s){', copies in one' if copies else ''}: "
            "at least 2 are needed, one to learn from and one to hold out"
        )
    again = {position for each in copies for position in each[1:]}
    num_held_out = round(SHARE_HELD_OUT * (len(names) - len(again.union(learned))))
    # Sorted first, so that the choice depends on names and seed, not on the order of the listing.
    order = [name for name in sorted(groups) if not set(groups[name]).intersection(learned)]
    np.random.default_rng(seed).shuffle(order)
    held_out: list[int] = []
    for name in order[: len(order) - 1]:
        if held_out and len(set(held_out) - again) >= num_held_out:
            break
        held_out += groups[name]
    return sorted(held_out)


def _groups(
    names: Sequence[str], group: str | None, copies: Sequence[Sequence[int]]
) -> dict[str, list[int]]:
    """Positions by the name of their group; copies join the groups that they are in."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(group_names(names, group, copies=copies)):
        groups.setdefault(name, []).append(position)
    return groups


def check_group(pattern: str) -> None:
    """Raise ValueError if a pattern can't name a group."""
    check_pattern("heldout_group", pattern, names="what stays together", example="(part[0-9]+)_")


def split(data: str, settings: Settings) -> tuple[list[listing.Listed], list[listing.Listed]]:
    """A detector's held-out images as they are below ``data``, and all other good images.

    Those that the fit left out because they look like masks are left out here too. The detector may
    have been trained on a copy of the data elsewhere, so only paths below the category are
    compared. Raises ValueError if a held-out image is missing.
    """
    marker = f"/{encoded(settings.category)}/"
    pattern = settings.found.options.get("good_pattern")
    # A detector without a record of held-out images is refused whatever the data look like.
    listed = good_images(data, settings.category, pattern) if settings.found.held_out else []
    by_path = {each.image.rpartition(marker)[2]: each for each in listed}
    wanted = [image.rpartition(marker)[2] for image in settings.found.held_out]
    missing = [path for path in wanted if path not in by_path]
    if missing or not wanted:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} held-out images of the {settings.category} detector "
            f"are not in {data}{f', the first: {missing[0]}' if missing else ''}; give as --data "
            "the folder that it was trained on"
        )
    # A line of the record is "URI: reason", and a URI has no space.
    suspicious = [line.partition(": ")[0] for line in settings.found.suspicious]
    passed_over = {*wanted, *(image.rpartition(marker)[2] for image in suspicious)}
    others = [each for each in listed if each.image.rpartition(marker)[2] not in passed_over]
    return [by_path[path] for path in wanted], others
