"""An image that is inspected tile by tile: the fields of the whole image.

A batch of tiles is inspected at a time, and their fields are blended (`images.tiles`): in the form
full those of the witnesses, in the form plain the maps of the difference. Of a region of interest,
only tiles that show some of it are inspected (`images.tile_regions`). `whole_scores` makes score
and map of the fields.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool

from vqad.array_types import Codes, Images
from vqad.detection.evidence import Evidence
from vqad.detection.local_statistics import Field
from vqad.detection.settings import Settings
from vqad.detection.witnesses import DIFFERENCE
from vqad.images import decoding, tensors, tile_regions
from vqad.images.appearance import Appearance, appearance
from vqad.images.decoding import WholeImage
from vqad.images.measures import MEASURES
from vqad.images.placement import Placement, Places, with_nearest
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import filled, to_images, to_tensor
from vqad.images.tiles import Blend, TileGrid, largest_of_blocks

BATCH_SIZE: Final = 16  # tiles that are inspected at once


@runtime_checkable
class TileInspector(Protocol):
    """A detector, as far as tiles need it."""

    @property
    def settings(self) -> Settings:
        """The size of its input, and the bits of 16-bit files."""

    @property
    def roi(self) -> RegionOfInterest | None:
        """The part of the whole image that counts; None if all does."""

    def evidence(self, batch: Images, placements: Sequence[Placement]) -> Evidence:
        """What it finds in a batch of tiles; ``placements`` say what of each of them counts."""

    def witness_fields(self, found: Evidence) -> list[dict[str, Field]]:
        """The fields of the witnesses of each tile; none but in the form full."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Everything that was found in one image; codes and looks of each of its tiles."""

    grid: TileGrid  # the tiles that were inspected
    fields: dict[str, Field]  # of the whole image, by witness
    codes: Codes
    restored_codes: Codes
    num_changed: int  # codes that count
    looks: list[Appearance]  # of each batch
    roi: RegionOfInterest | None = None
    # The places of the fields that count; None if all do.
    places: Bool[np.ndarray, "whole_rows whole_cols"] | None = None

    @property
    def mean_looks(self) -> dict[str, float]:
        """Each measure of `Appearance`, as the mean over the tiles."""
        return {
            name: float(np.concatenate([getattr(one, name) for one in self.looks]).mean())
            for name in MEASURES
        }


@dataclass(kw_only=True)
class _Blends:
    """The blend of each field; how large a field is, is known from the first tile."""

    grid: TileGrid
    size_px: int  # of the model's input
    by_name: dict[str, Blend] = field(default_factory=dict)

    def add(self, at: int, fields: dict[str, Field]) -> None:
        """Add the fields of one tile, reduced where the map would be too large."""
        for name, found in fields.items():
            factor = max(1, len(found) // self.grid.places_of_map(self.size_px))
            small = largest_of_blocks(found, factor) if factor > 1 else found
            if name not in self.by_name:
                self.by_name[name] = Blend(self.grid, places=len(small))
            self.by_name[name].add(at, small)

    def whole(self, roi: RegionOfInterest | None) -> tuple[dict[str, Field], Places | None]:
        """The fields of the whole image, and the places of them that count; None if all do."""
        fields = {name: blend.whole for name, blend in self.by_name.items()}
        if roi is None:
            return fields, None
        first = next(iter(self.by_name.values()))
        places = tile_regions.counted_places(roi, first.whole.shape, first.covered)
        return {name: with_nearest(each, places) for name, each in fields.items()}, places


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """A batch of tiles."""

    first: int  # position of the first one among those of the grid that are looked at
    images: Images  # what doesn't count has the nearest colour that does
    placements: list[Placement]


def tiles_of(
    image: WholeImage, grid: TileGrid, detector: TileInspector, batch_size: int
) -> Iterator[Tiles]:
    """The tiles that are looked at, in batches."""
    settings, corners = detector.settings, grid.corners
    size_px, tile_px = settings.vqvae.image_size_px, grid.tiling.tile_px
    for at in range(0, len(corners), batch_size):
        some = corners[at : at + batch_size]
        pixels = [image.tile(*each, tile_px=tile_px, size_px=size_px) for each in some]
        placements = [
            tile_regions.tile_placement(detector.roi, grid, each, size_px=size_px) for each in some
        ]
        images = to_images(to_tensor(decoding.stack(pixels, bits=settings.bits)))
        yield Tiles(first=at, images=filled(images, placements), placements=placements)


@torch.inference_mode()
def look_at(
    detector: TileInspector,
    image: WholeImage,
    grid: TileGrid | None = None,
    *,
    batch_size: int = BATCH_SIZE,
) -> Whole:
    """Inspect the tiles of an image, those of the detector's grid or of another one.

    Tiles that lie wholly outside of the region of interest are left out.
    """
    size_px = detector.settings.vqvae.image_size_px
    grid = grid_of(image, detector, grid)
    blends = _Blends(grid=grid, size_px=size_px)
    codes, restored, looks, num_changed = [], [], [], 0
    for tiles in tiles_of(image, grid, detector, batch_size):
        found = detector.evidence(tiles.images, tiles.placements)
        for at, fields in enumerate(_fields(detector, found)):
            blends.add(tiles.first + at, _all_counted(fields, tiles.placements[at]))
        codes.append(found.codes.cpu())
        restored.append(found.restored_codes.cpu())
        num_changed += int(tensors.counted(codes[-1] != restored[-1], tiles.placements).sum())
        looks.append(appearance(tiles.images))
    fields, places = blends.whole(detector.roi)
    return Whole(
        grid=grid,
        fields=fields,
        codes=torch.cat(codes),
        restored_codes=torch.cat(restored),
        num_changed=num_changed,
        looks=looks,
        roi=detector.roi,
        places=places,
    )


def grid_of(image: WholeImage, detector: TileInspector, grid: TileGrid | None = None) -> TileGrid:
    """The tiles of an image that a detector looks at, of its own grid or of another one.

    Raises ValueError where it has none.
    """
    settings = detector.settings
    if grid is None and settings.tiling is None:
        raise ValueError(f"the {settings.category} detector takes no tiles")
    if grid is None:
        assert settings.tiling is not None
        grid = settings.tiling.grid(image.height_px, image.width_px)
    return tile_regions.looked_at(grid, detector.roi, size_px=settings.vqvae.image_size_px)


def _all_counted(fields: dict[str, Field], placement: Placement) -> dict[str, Field]:
    """The fields of a tile, in which places that don't count have the nearest value."""
    if placement.counted is None:
        return fields
    return {name: placement.filled_field(field) for name, field in fields.items()}


def _fields(detector: TileInspector, found: Evidence) -> Sequence[dict[str, Field]]:
    fields = detector.witness_fields(found)
    return fields or [{DIFFERENCE: each} for each in found.differences]


def looks_and_counts(whole: Whole, num_codes: int) -> dict[str, Any]:
    """The columns of the image for the statistics of the night."""
    counts = torch.bincount(whole.codes.flatten(), minlength=num_codes)
    return whole.mean_looks | {"code_counts": counts.numpy().astype("<u4").tobytes()}
