"""An image that is inspected tile by tile: one score and one map of the whole image.

A batch of tiles is inspected at a time, and their fields are blended (`images.tiles`): in the form
full those of the witnesses, in the form plain the maps of the difference. Score and map are then
made once, of the whole image. So a defect across the edge of a tile is one defect.

Areas of a score are those of a tile: of the field of an image, the values that count are the
largest, as many as a tile has places. A defect is as unusual in a large image as in a small one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float32

from vqad.array_types import AnomalyMap, Codes, Images
from vqad.detection import area_score, score, stored_map, witnesses
from vqad.detection.area_score import AreaRule
from vqad.detection.evidence import Evidence, Inspection
from vqad.detection.local_statistics import Field
from vqad.detection.p_value import p_value
from vqad.detection.settings import Settings
from vqad.detection.stored_map import as_stored
from vqad.detection.witnesses import DIFFERENCE, join_fields
from vqad.images import decoding
from vqad.images.appearance import Appearance, appearance
from vqad.images.decoding import WholeImage
from vqad.images.measures import MEASURES
from vqad.images.tensors import to_images, to_tensor
from vqad.images.tiles import Blend, TileGrid, largest_of_blocks
from vqad.model.finite import check_finite

BATCH_SIZE: Final = 16  # tiles that are inspected at once


@runtime_checkable
class TileInspector(Protocol):
    """A detector, as far as tiles need it."""

    @property
    def settings(self) -> Settings:
        """The size of its input, and the bits of 16-bit files."""

    def evidence(self, batch: Images) -> Evidence:
        """What it finds in a batch of tiles."""

    def witness_fields(self, found: Evidence) -> list[dict[str, Field]]:
        """The fields of the witnesses of each tile; none but in the form full."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Everything that was found in one image; codes and looks of each of its tiles."""

    grid: TileGrid
    fields: dict[str, Field]  # of the whole image, by witness
    codes: Codes
    restored_codes: Codes
    looks: list[Appearance]  # of each batch

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

    def whole(self) -> dict[str, Field]:
        """The fields of the whole image."""
        return {name: blend.whole for name, blend in self.by_name.items()}


def tiles_of(
    image: WholeImage, grid: TileGrid, settings: Settings, batch_size: int
) -> Iterator[tuple[int, Images]]:
    """The tiles in batches, each with the position of its first tile."""
    size_px, tile_px = settings.vqvae.image_size_px, grid.tiling.tile_px
    corners = grid.corners
    for at in range(0, len(corners), batch_size):
        pixels = [
            image.tile(top, left, tile_px=tile_px, size_px=size_px)
            for top, left in corners[at : at + batch_size]
        ]
        yield at, to_images(to_tensor(decoding.stack(pixels, bits=settings.bits)))


@torch.inference_mode()
def look_at(
    detector: TileInspector,
    image: WholeImage,
    grid: TileGrid | None = None,
    *,
    batch_size: int = BATCH_SIZE,
) -> Whole:
    """Inspect all tiles of an image, those of the detector's grid or of another one."""
    settings = detector.settings
    grid = grid or grid_of(image, settings)
    blends = _Blends(grid=grid, size_px=settings.vqvae.image_size_px)
    codes, restored, looks = [], [], []
    for first, batch in tiles_of(image, grid, settings, batch_size):
        found = detector.evidence(batch)
        for at, fields in enumerate(_fields(detector, found), first):
            blends.add(at, fields)
        codes.append(found.codes.cpu())
        restored.append(found.restored_codes.cpu())
        looks.append(appearance(batch))
    return Whole(
        grid=grid,
        fields=blends.whole(),
        codes=torch.cat(codes),
        restored_codes=torch.cat(restored),
        looks=looks,
    )


def grid_of(image: WholeImage, settings: Settings) -> TileGrid:
    """The tiles that a detector cuts an image into. Raises ValueError where it has none."""
    if settings.tiling is None:
        raise ValueError(f"the {settings.category} detector takes no tiles")
    return settings.tiling.grid(image.height_px, image.width_px)


def _fields(detector: TileInspector, found: Evidence) -> Sequence[dict[str, Field]]:
    fields = detector.witness_fields(found)
    return fields or [{DIFFERENCE: each} for each in found.differences]


@dataclass(frozen=True, kw_only=True)
class MapSize:
    """The size of an image's map, and of a defect in it."""

    shape: tuple[int, int]
    minimum_area_px: int  # in pixels of the map

    def wide(self, field: Field) -> AnomalyMap:
        """A field at the size of the map, 0 where nothing is unusual."""
        rows, cols = self.shape
        if field.shape == self.shape:
            return field.clip(0)
        return cv2.resize(field, (cols, rows), interpolation=cv2.INTER_LINEAR).clip(0)


def map_size(grid: TileGrid, *, size_px: int, minimum_area_px: int) -> MapSize:
    """The size of the map of an image with these tiles.

    ``size_px`` is the side of the model's input, ``minimum_area_px`` that of a defect in it.
    """
    shape = grid.shape(grid.places_of_map(size_px))
    area_px = grid.tiling.area_in_map(
        minimum_area_px, size_px=size_px, shape=shape, source_px=(grid.width_px, grid.height_px)
    )
    return MapSize(shape=shape, minimum_area_px=area_px)


def strongest(whole: Field, *, places: int) -> Float32[np.ndarray, "places places"]:
    """The largest values of a whole field, as many as a tile has, as a field of a tile."""
    flat, num = whole.ravel(), places**2
    if flat.size > num:
        flat = np.partition(flat, flat.size - num)[flat.size - num :]
    return np.resize(flat, (places, places))


def places_of(whole: Field, grid: TileGrid) -> int:
    """Places on each side of a tile, of a field of the whole image."""
    return max(1, round(whole.shape[1] * grid.tiling.tile_px / grid.width_px))


def judged(whole: Whole, settings: Settings) -> tuple[float, AnomalyMap]:
    """The score of an image, and the map that agrees with it."""
    size = map_size(
        whole.grid,
        size_px=settings.vqvae.image_size_px,
        minimum_area_px=settings.minimum_area_px,
    )
    if settings.form == "plain":
        found = whole.fields[DIFFERENCE]
        return score.score(found, minimum_area_px=size.minimum_area_px), found
    assert settings.area_rule is not None
    joined = join_fields(whole.fields, settings.witnesses)
    return judged_field(joined, settings.area_rule, whole.grid, size)


def inspection_of(whole: Whole, settings: Settings) -> Inspection:
    """The result of one image; its codes are those of its tiles."""
    image_score, anomaly_map = judged(whole, settings)
    check_finite("the anomaly map's values", torch.from_numpy(anomaly_map))
    anomaly_map = stored_map.as_stored(anomaly_map, image_score=image_score)
    shares = witnesses.shares(whole.fields, settings.witnesses) if settings.witnesses else {}
    return Inspection(
        verdicts=[score.verdict(image_score, settings.threshold)],
        scores=[image_score],
        p_values=[p_value(image_score, settings.normal_scores)],
        shares=[shares],
        codes_changed=[int((whole.codes != whole.restored_codes).sum())],
        anomaly_maps=[as_stored(anomaly_map, image_score=image_score)],
        codes=whole.codes,
        restored_codes=whole.restored_codes,
    )


def judged_field(
    joined: Field, rule: AreaRule, grid: TileGrid, size: MapSize
) -> tuple[float, AnomalyMap]:
    """The same of a joined field, in the form full."""
    some = strongest(joined, places=places_of(joined, grid))
    image_score = area_score.area_score(some, rule.usual)
    anomaly_map = area_score.agreeing_map(
        rule.scaled(size.wide(joined)),
        image_score=image_score,
        minimum_area_px=size.minimum_area_px,
    )
    return image_score, anomaly_map


def looks_and_counts(whole: Whole, num_codes: int) -> dict[str, Any]:
    """The columns of the image for the statistics of the night."""
    counts = torch.bincount(whole.codes.flatten(), minlength=num_codes)
    return whole.mean_looks | {"code_counts": counts.numpy().astype("<u4").tobytes()}
