"""A dry run of a training: what would be fitted, on which images, and what looks wrong in them.

Nothing is written, and no Ray is needed: the images are read in this process, and only a sample of
them where there are many.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from vqad.images import listing
from vqad.images.tile_regions import looked_at
from vqad.images.tiles import TileGrid
from vqad.model.kinds import Kind
from vqad.storage.errors import VqadError
from vqad.storage.uris import relative
from vqad.training import dataset, holdout, near_copies, odd_images, regions
from vqad.training.alignment import find_alignment
from vqad.training.category import FEWEST_IMAGES
from vqad.training.dataset import Examples
from vqad.training.found_kind import find_kind
from vqad.training.good_images import good_images
from vqad.training.job import TrainJob
from vqad.training.learned_tiles import drawing_of, rows, rows_of, wholes
from vqad.training.minimum_area import MinimumArea, map_pixel, map_shape, minimum_area
from vqad.training.odd_images import Small
from vqad.training.options import TrainOptions
from vqad.training.presets import preset_of

Say = Callable[[str], None]  # takes one line for a person

MOST_READ: Final = 500  # images of a category; a guess
_MOST_SHOWN: Final = 5  # images in a warning


@dataclass(kw_only=True)
class Foreseen:
    """What a fit of one category would be like."""

    category: str
    listed: list[listing.Listed] = field(default_factory=list)
    num_read: int = 0
    num_held_out: int = 0
    kind: Kind = "object"
    minimum_area: MinimumArea | None = None
    warnings: list[str] = field(default_factory=list)
    failed: str = ""  # why it could not be fitted
    pixels: np.ndarray | None = None  # a few images, to time the fit with
    small: Small | None = None
    names: list[str] = field(default_factory=list)  # of the rows of `small`

    def record(self) -> dict[str, Any]:
        """The promised summary of the category."""
        if self.failed:
            return {"failed": self.failed}
        return {
            "images": len(self.listed),
            "read": self.num_read,
            "held_out": self.num_held_out,
            "kind": self.kind,
            **(self.minimum_area.record() if self.minimum_area else {}),
            "warnings": self.warnings,
        }


def foresee(job: TrainJob, say: Say) -> list[Foreseen]:
    """Look at the good images of every category of a job, and say what is found."""
    found = []
    for options in job.options:
        one = Foreseen(category=options.category)
        try:
            _look_at(one, job, options, say)
        except (VqadError, ValueError) as error:
            one.failed = str(error)
            say(f"{options.category}: would fail: {error}")
        found.append(one)
    _compare(found)
    for one in found:
        for line in one.warnings:
            say(f"{one.category}: warning: {line}")
    return found


def _look_at(one: Foreseen, job: TrainJob, options: TrainOptions, say: Say) -> None:
    """Fill in everything that follows from the category's own images. Raises ValueError."""
    one.listed = good_images(job.data, options.category, options.good_pattern)
    if not one.listed:
        raise ValueError(f"no images in {job.data}/{options.category}")
    some, sizes = _some(one.listed), preset_of(options.preset).vqvae
    say(f"{one.category}: {len(one.listed)} images, of which {len(some)} are read")
    roi = regions.checked(job.data, options)
    found = dataset.read(
        some,
        size_px=sizes.image_size_px,
        resize=options.known_resize,
        roi=roi,
        drawing=drawing_of(options, size_px=sizes.image_size_px, num_images=len(one.listed)),
    )
    learned = rows_of(found.pixels, range(len(found.names)))
    one.pixels = rows(found.pixels)[learned[:16]]
    found = replace(found, pixels=wholes(found.pixels))
    one.num_read = len(found.names)
    one.names = [relative(name, job.data) for name in found.names]
    copies = near_copies.copies(found.pixels)
    if len(found.names) < FEWEST_IMAGES:
        raise ValueError(
            f"{len(found.names)} images to learn from: at least {FEWEST_IMAGES} are needed, of "
            "which a tenth is held out; add good images, or leave the category out"
        )
    held_out = holdout.hold_out(
        found.names, seed=options.seed, group=options.heldout_group, copies=copies
    )
    # Of a sample, the share that is held out is that of all images.
    one.num_held_out = round(len(held_out) * len(one.listed) / len(some))
    say(f"{one.category}: {one.num_held_out} images would be held out")
    _find_kind(one, options, found, say)
    _find_alignment(one, options, found, say)
    say(f"{one.category}: {odd_images.shapes(found.sizes_px)}")
    pixel = map_pixel(found.sizes_px, map_shape(options, sizes.image_size_px))
    if options.tiling and pixel:
        grid = options.tiling.grid(*reversed(pixel.source))
        say(f"{one.category}: {_tiles(grid, looked_at(grid, roi, size_px=sizes.image_size_px))}")
    one.minimum_area = minimum_area(options, pixel, default_px=sizes.cell_area_px)
    say(f"{one.category}: {one.minimum_area.describe()}")
    one.warnings += _warnings(job.data, found, copies)
    one.small = odd_images.small_pictures(found.pixels)


def _tiles(grid: TileGrid, looked_at: TileGrid) -> str:
    all_tiles = f"an image of {grid.width_px} x {grid.height_px} has {len(grid)} tiles"
    if len(looked_at) == len(grid):
        return all_tiles
    return f"{all_tiles}, of which {len(looked_at)} show some of the region of interest"


def _some(listed: Sequence[listing.Listed]) -> list[listing.Listed]:
    """Evenly spaced images: neighbours in a list are often of one part or one day."""
    at = np.unique(np.linspace(0, len(listed) - 1, min(len(listed), MOST_READ)).round().astype(int))
    return [listed[position] for position in at]


def _find_kind(one: Foreseen, options: TrainOptions, found: Examples, say: Say) -> None:
    if options.kind:
        one.kind = options.kind
        say(f"{one.category}: of the kind {options.kind}, which is given")
        return
    kind = find_kind(found.names, found.whole, seed=options.seed)
    one.kind = kind.kind
    say(f"{one.category}: {kind.describe()}")


def _find_alignment(one: Foreseen, options: TrainOptions, found: Examples, say: Say) -> None:
    known = replace(options, kind=one.kind)
    form = options.form or preset_of(options.preset).form
    placements = found.placements or []
    pose = find_alignment(found.names, found.pixels, known, form=form, placements=placements)
    if pose is not None:
        say(f"{one.category}: {pose.describe()}")


def _warnings(data: str, found: Examples, copies: Sequence[Sequence[int]]) -> Iterator[str]:
    """What looks wrong in the images of one category."""
    names = [relative(name, data) for name in found.names]
    left_out = {"can't be read": found.unreadable, "look like masks": found.suspicious}
    for why, lines in left_out.items():
        if lines:
            yield f"{len(lines)} images {why} and would be left out: {_shown(lines)}"
    if copies:
        num = sum(len(group) - 1 for group in copies)
        groups = ["=".join(names[at] for at in group[:_MOST_SHOWN]) for group in copies]
        yield f"{num} images are copies of others, equal or nearly: {_shown(groups)}"
    for reasons, what in (
        (odd_images.far_from_the_rest(odd_images.small_pictures(found.pixels)), "unlike the rest"),
        (odd_images.blurred(found.pixels), "blurred"),
        (odd_images.of_other_shape(found.sizes_px), "of another shape"),
    ):
        if reasons:
            lines = [f"{names[at]} ({reason})" for at, reason in reasons.items()]
            yield f"{len(lines)} images may be {what}: {_shown(lines)}"


def _compare(found: Sequence[Foreseen]) -> None:
    """Add warnings about categories that look alike, and about images of another category."""
    small: Mapping[str, Small] = {
        one.category: one.small for one in found if one.small is not None and not one.failed
    }
    by_name = {one.category: one for one in found}
    for one, other in odd_images.same_looking(small):
        by_name[one].warnings.append(f"its images look like those of {other}")
    for category, reasons in odd_images.like_another(small).items():
        names = by_name[category].names
        lines = [f"{names[at]} {reason}" for at, reason in reasons.items()]
        by_name[category].warnings.append(
            f"{len(lines)} images may be in the wrong folder: {_shown(lines)}"
        )


def _shown(lines: Sequence[str]) -> str:
    more = f", and {len(lines) - _MOST_SHOWN} more" if len(lines) > _MOST_SHOWN else ""
    return ", ".join(lines[:_MOST_SHOWN]) + more
