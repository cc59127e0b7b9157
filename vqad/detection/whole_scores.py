"""One score and one map of a whole image that was inspected tile by tile.

Both are made once, of the fields of the whole image. So a defect across the edge of a tile is one
defect. Only what lies inside of a region of interest counts.

Areas of a score are those of a tile: of the field of an image, the values that count are the
largest, as many as a tile has places. A defect is as unusual in a large image as in a small one.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float32

from vqad.array_types import AnomalyMap
from vqad.detection import area_score, score, witnesses
from vqad.detection.area_score import AreaRule
from vqad.detection.evidence import Inspection
from vqad.detection.local_statistics import Field
from vqad.detection.p_value import p_value
from vqad.detection.settings import Settings
from vqad.detection.stored_map import as_stored
from vqad.detection.whole_images import Whole
from vqad.detection.witnesses import DIFFERENCE, join_fields
from vqad.images.placement import Counted, Places, counted_of_shape
from vqad.images.roi import RegionOfInterest
from vqad.images.tiles import TileGrid
from vqad.model.finite import check_finite


@dataclass(frozen=True, kw_only=True)
class MapSize:
    """The size of an image's map, and of a defect in it."""

    shape: tuple[int, int]
    minimum_area_px: int  # in pixels of the map
    inside: Counted | None = None  # the pixels that count; None if all do

    def wide(self, field: Field) -> AnomalyMap:
        """A field at the size of the map, 0 where it does not count."""
        rows, cols = self.shape
        found = field
        if field.shape != self.shape:
            found = cv2.resize(field, (cols, rows), interpolation=cv2.INTER_LINEAR)
        return self.masked(area_score.positive(found))

    def masked(self, anomaly_map: AnomalyMap) -> AnomalyMap:
        """The map, 0 where it does not count."""
        if self.inside is None:
            return anomaly_map
        return np.where(self.inside, anomaly_map, np.float32(0))


def map_size(
    grid: TileGrid, *, size_px: int, minimum_area_px: int, roi: RegionOfInterest | None = None
) -> MapSize:
    """The size of the map of an image with these tiles, and its part inside of a region.

    ``size_px`` is the side of the model's input, ``minimum_area_px`` that of a defect in it.
    """
    shape = grid.shape(grid.places_of_map(size_px))
    area_px = grid.tiling.area_in_map(
        minimum_area_px, size_px=size_px, shape=shape, source_px=(grid.width_px, grid.height_px)
    )
    inside = None if roi is None else counted_of_shape(roi, shape)
    return MapSize(shape=shape, minimum_area_px=area_px, inside=inside)


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """The largest values of a whole field, as many as a tile has, as a field of a tile."""

    field: Float32[np.ndarray, "places places"]
    places: Places | None  # that have a value; None if all have


def strongest(whole: Field, *, places: int, counted: Places | None = None) -> Strongest:
    """The largest values of a whole field with so many places on each side of a tile."""
    flat, num = (whole if counted is None else whole[counted]).ravel(), places**2
    if flat.size > num:
        flat = np.partition(flat, flat.size - num)[flat.size - num :]
    field = np.resize(flat, (places, places))
    if counted is None:
        return Strongest(field=field, places=None)
    return Strongest(field=field, places=(np.arange(num) < flat.size).reshape(field.shape))


def places_of(whole: Field, grid: TileGrid) -> int:
    """Places on each side of a tile, of a field of the whole image."""
    return max(1, round(whole.shape[1] * grid.tiling.tile_px / grid.width_px))


def judged(whole: Whole, settings: Settings) -> tuple[float, AnomalyMap]:
    """The score of an image, and the map that agrees with it."""
    size = map_size(
        whole.grid,
        size_px=settings.vqvae.image_size_px,
        minimum_area_px=settings.minimum_area_px,
        roi=whole.roi,
    )
    if settings.form == "plain":
        found = size.masked(whole.fields[DIFFERENCE])
        return score.score(found, minimum_area_px=size.minimum_area_px), found
    assert settings.area_rule is not None
    joined = join_fields(whole.fields, settings.witnesses)
    return judged_field(joined, settings.area_rule, whole.grid, size, whole.places)


def inspection_of(whole: Whole, settings: Settings) -> Inspection:
    """The result of one image; its codes are those of its tiles."""
    image_score, anomaly_map = judged(whole, settings)
    check_finite("the anomaly map's values", torch.from_numpy(anomaly_map))
    shares = dict[str, float]()
    if settings.witnesses:
        shares = witnesses.shares(whole.fields, settings.witnesses, whole.places)
    return Inspection(
        verdicts=[score.verdict(image_score, settings.threshold)],
        scores=[image_score],
        p_values=[p_value(image_score, settings.normal_scores)],
        shares=[shares],
        codes_changed=[whole.num_changed],
        anomaly_maps=[as_stored(anomaly_map, image_score=image_score)],
        codes=whole.codes,
        restored_codes=whole.restored_codes,
    )


def judged_field(
    joined: Field, rule: AreaRule, grid: TileGrid, size: MapSize, counted: Places | None
) -> tuple[float, AnomalyMap]:
    """The same of a joined field, in the form full; only the places that are ``counted`` count."""
    some = strongest(joined, places=places_of(joined, grid), counted=counted)
    image_score = area_score.area_score(some.field, rule.usual, some.places)
    anomaly_map = area_score.agreeing_map(
        rule.scaled(size.wide(joined)),
        image_score=image_score,
        minimum_area_px=size.minimum_area_px,
        inside=size.inside,
    )
    return image_score, anomaly_map
