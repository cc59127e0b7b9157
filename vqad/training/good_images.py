"""Find the good images of each category in a folder of training data, and nothing else.

A detector that learns from a defect or from a mask is wrong without anybody noticing. So images are
taken only from places that say that they are good, in this order:

1. where a pattern (``--good-pattern``) matches the path below the category, if one is given
2. CATEGORY/train/{good,ok,normal}
3. CATEGORY/{good,ok,normal}
4. CATEGORY/Data/Images/Normal, as VisA is published; without the test images of its split file
5. CATEGORY itself, if it is a flat folder of images

Names may be in capitals or not. Everything else is refused, and so is a place with contents that
look like defects or masks.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import dirname
from typing import Final

from vqad.images import listing, visa_split
from vqad.images.good_folders import is_good
from vqad.storage import files, uris
from vqad.storage.errors import ArchiveError, VqadError
from vqad.training import suspicious_names

# Folders above a folder of good images, in the order in which they are looked for.
_ROUTES: Final = (("train",), (), ("data", "images"))
_PARTS_OF_A_CATEGORY: Final = frozenset(
    ("train", "test", "validation", "ground_truth", "images", "masks", "label", "data")
)
_MOST_SHOWN: Final = 5  # folders in a message


class LayoutError(VqadError, ValueError):
    """A folder in which the good images can't be known from their places."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The categories of a folder of training data."""

    usable: list[str]
    refused: dict[str, str] = field(default_factory=dict)  # reason by category
    empty: list[str] = field(default_factory=list)  # names without any image

    @property
    def with_images(self) -> list[str]:
        """The categories that have images, in the order of their names."""
        return sorted([*self.usable, *self.refused])


def folders(data: str) -> list[str]:
    """Names of the folders below ``data``. Raises ArchiveError, or LayoutError if it has none."""
    children = files.list_children(data)
    found = sorted(name for name, is_folder in children.items() if is_folder and name[0] != ".")
    if not found:
        raise LayoutError(_nothing_usable(data, list(children), {}))
    return found


def survey(
    data: str,
    names: Sequence[str],
    pattern: str | None = None,
    own: Mapping[str, str] | None = None,
) -> Found:
    """Look at some folders below ``data``. Raises LayoutError if none of them is usable.

    ``own`` has the patterns of single categories.
    """
    found = Found(usable=[])
    for name in names:
        try:
            if good_images(data, name, (own or {}).get(name, pattern)):
                found.usable.append(name)
            else:
                found.empty.append(name)
        except LayoutError as error:
            found.refused[name] = str(error)
    if not found.usable:
        raise LayoutError(_nothing_usable(data, names, found.refused))
    return found


def _nothing_usable(data: str, names: Sequence[str], refused: Mapping[str, str]) -> str:
    """Why there is nothing to learn from: most often, the folder is one level too deep."""
    if any(map(_is_part_of_a_category, names)) or any(map(listing.is_image, names)):
        above, _, name = data.rstrip("/").rpartition("/")
        seen = "images" if any(map(listing.is_image, names)) else ", ".join(names[:_MOST_SHOWN])
        return (
            f"{data} contains {seen}: it looks like a single category; give the folder above it: "
            f"--data {above or '.'} --categories {uris.decoded(name)}"
        )
    if refused:
        return "; ".join(refused.values())
    return (
        f"no images to learn from in {data}; expected DATA/CATEGORY/train/good/* or DATA/CATEGORY/*"
    )


def good_images(data: str, category: str, pattern: str | None = None) -> list[listing.Listed]:
    """The good images of a category, sorted by URI; none if it has no images at all.

    ``pattern`` is searched in the paths below the category. Raises LayoutError.
    """
    folder = uris.join(data, category)
    if pattern is not None:
        return _matching(folder, pattern)
    if _is_part_of_a_category(category) and _images(folder):
        raise LayoutError(
            f"{folder}: {category} is the name of a part of a category, not of a category; give "
            "the folder above the category as --data, or rename the folder"
        )
    places = _good_places(folder)
    if not places:
        return _flat(folder, category)
    found = [each for place in places for each in _images(uris.join(folder, place))]
    if places[0].casefold().startswith(f"{visa_split.IMAGES}/".casefold()):
        found = _without_tests(data, category, found)
    paths = {each.image: uris.relative(each.image, uris.absolute(folder)) for each in found}
    below = [path.split("/", places[0].count("/") + 1)[-1] for path in paths.values()]
    _refuse(folder, suspicious_names.in_folders(below) or suspicious_names.of_masks(paths.values()))
    return sorted(found, key=lambda each: each.image)


def _without_tests(
    data: str, category: str, found: Sequence[listing.Listed]
) -> list[listing.Listed]:
    """The images that VisA's split file, if there is one, does not reserve for testing."""
    try:
        split = visa_split.read_split(data, category) or {}
    except ValueError as error:
        raise LayoutError(str(error)) from error
    return [each for each in found if split.get(each.image) != "test"]


def check_pattern(pattern: str) -> None:
    """Raise ValueError if it is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"good_pattern {pattern!r} is not a regular expression: {error}"
        ) from error


def _is_part_of_a_category(name: str) -> bool:
    return name.casefold() in _PARTS_OF_A_CATEGORY or is_good(name)


def _good_places(folder: str) -> list[str]:
    """Paths below the folder of a category, of the folders whose names say that they are good."""
    for route in _ROUTES:
        parents = [""]
        for step in route:
            parents = [
                f"{parent}{name}/"
                for parent in parents
                for name in _names(uris.join(folder, parent))
                if name.casefold() == step
            ]
        found = [
            f"{parent}{name}"
            for parent in parents
            for name in _names(uris.join(folder, parent))
            if is_good(name)
        ]
        if found:
            return found
    return []


def _flat(folder: str, category: str) -> list[listing.Listed]:
    """The images of a folder without subfolders."""
    found = _images(folder)
    paths = [uris.relative(each.image, uris.absolute(folder)) for each in found]
    is_flat = not any("/" in path for path in paths)
    others = [name for name in _names(folder) if not listing.is_image(name)]
    if found and (not is_flat or suspicious_names.in_folders(f"{name}/" for name in others)):
        raise LayoutError(
            f"{folder}: which images are good can't be known from their places; found "
            f"{_seen(paths, others)}; move the good images to {category}/train/good, or give "
            "--good-pattern with a regular expression for their paths below "
            f"{category}, such as '{_suggested(paths)}'"
        )
    _refuse(folder, suspicious_names.of_masks(paths))
    return found


def _matching(folder: str, pattern: str) -> list[listing.Listed]:
    found = _images(folder)
    paths = {each.image: uris.relative(each.image, uris.absolute(folder)) for each in found}
    chosen = [each for each in found if re.search(pattern, paths[each.image])]
    if found and not chosen:
        raise LayoutError(
            f"{folder}: --good-pattern {pattern!r} matches none of its {len(found)} images; the "
            f"first has the path {paths[found[0].image]}"
        )
    matched = [paths[each.image] for each in chosen]
    _refuse(
        folder,
        suspicious_names.in_folders(matched, allowed=pattern) or suspicious_names.of_masks(matched),
    )
    return chosen


def _refuse(folder: str, reason: str) -> None:
    if reason:
        raise LayoutError(
            f"{folder}: {reason}; move such files out of the folder, or give --good-pattern with a "
            "regular expression that only the paths of good images match"
        )


def _seen(paths: Sequence[str], others: Sequence[str]) -> str:
    """A short description of where the images are."""
    counts = Counter(dirname(path) or "the folder itself" for path in paths)
    shown = [f"{number} images in {name}" for name, number in sorted(counts.items())]
    more = len(shown) - _MOST_SHOWN
    unlisted = [name for name in others if not any(path.startswith(f"{name}/") for path in paths)]
    tail = [f"{more} more folders"] if more > 0 else []
    return ", ".join([*shown[:_MOST_SHOWN], *tail, *unlisted[:_MOST_SHOWN]])


def _suggested(paths: Sequence[str]) -> str:
    """A pattern for the folder that is most likely the good one."""
    folders = sorted({dirname(path) for path in paths if "/" in path})
    likely = [each for each in folders if not suspicious_names.in_folders([f"{each}/"])]
    first = next((each for each in likely if re.search("good|ok|normal|free", each.casefold())), "")
    chosen = first or (likely or [*folders, ""])[0]
    return f"^{re.escape(chosen)}/" if chosen else r"\.png$"


def _images(folder: str) -> list[listing.Listed]:
    try:
        return list(listing.list_images(folder))
    except (ArchiveError, NotADirectoryError):
        return []


def _names(folder: str) -> list[str]:
    try:
        return files.list_names(folder)
    except (ArchiveError, NotADirectoryError):
        return []
