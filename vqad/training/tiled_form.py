"""Calibrate fitted networks on whole images that are inspected tile by tile.

Score and threshold are of whole images, so whole images are looked at: all that are held out, and
in the form full some of those that the networks learned from as well, each by local statistics and
a segmenter that did not learn from it. Whole images are read one at a time.

Local statistics and segmenter are fitted to tiles of the images that are not held out. Tiles show
any part of a product, so they have no statistics by place: neither those of features nor the usual
surprisal.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Integer
from numpy import ndarray
from torch import Tensor

from vqad.array_types import Images
from vqad.detection import calibrate, surprisal, witnesses
from vqad.detection.area_score import AreaRule, area_score, rule_of, usual_areas
from vqad.detection.evidence import Evidence
from vqad.detection.local_statistics import Field, LocalStatistics
from vqad.detection.score import score
from vqad.detection.segmented import local_fields
from vqad.detection.settings import Settings
from vqad.detection.surprisal import Surprisal, Usual
from vqad.detection.whole_images import look_at
from vqad.detection.whole_scores import Strongest, map_size, places_of, strongest
from vqad.detection.witnesses import Witness, join_fields
from vqad.detector import Detector
from vqad.images.decoding import WholeImage
from vqad.images.placement import Placement, Places
from vqad.images.placement import places_of as cells_of
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import to_images
from vqad.images.tile_regions import looked_at
from vqad.images.tiles import TileGrid, Tiling
from vqad.model.bfloat16 import in_precision
from vqad.model.segmenter import Segmenter
from vqad.training.local_statistics import FittedStatistics, fit_statistics
from vqad.training.options import TrainOptions
from vqad.training.segmenter import FittedSegmenter, SegmenterOptions, fit_segmenter

# Guesses.
MOST_TRAINING_IMAGES: Final = 100  # that are scored beside the held-out ones
_MOST_TILES: Final = 1500  # of all of them; a held-out image is scored however many tiles it has
_MOST_USUAL: Final = 128  # held-out tiles that say how much surprisal is usual
_BATCH_SIZE: Final = 16


@dataclass(frozen=True, kw_only=True)
class TiledImages:
    """Normal images of one category, as the calibration of a detector with tiles takes them."""

    tiling: Tiling
    roi: RegionOfInterest | None  # the part of the images that counts
    read: Callable[[str], WholeImage]  # by URI; raises ValueError
    held_out: list[str]  # URIs
    learned: list[str]  # URIs of others that may be scored; in any order, the first ones first
    tiles: Integer[ndarray, "tiles height width 3"]  # of images that are not held out
    groups: list[str]  # of each of these tiles: those of a group are in one fold
    group_of: Mapping[str, str]  # of each of the images that lent them
    held_out_tiles: Tensor  # (tiles, size, size, 3), as many of each held-out image

    def grid(self, image: WholeImage, size_px: int) -> TileGrid:
        """The tiles of an image that are looked at, for a model with an input of this side."""
        grid = self.tiling.grid(image.height_px, image.width_px)
        return looked_at(grid, self.roi, size_px=size_px)

    def scored(self, size_px: int) -> list[str]:
        """The images that are scored: all that are held out, and some of the others."""
        num_tiles = len(self.grid(self.read(self.held_out[0]), size_px))
        num = min(MOST_TRAINING_IMAGES, _MOST_TILES // num_tiles - len(self.held_out))
        return [*self.held_out, *self.learned[: max(0, num)]]


@dataclass(frozen=True, kw_only=True)
class TiledForm:
    """What was fitted, and the scores of whole normal images."""

    statistics: LocalStatistics
    segmenter: Segmenter | None
    usual: Usual
    witnesses: tuple[Witness, ...]
    rule: AreaRule
    threshold: float
    scores: list[float]  # those of the held-out images first
    num_changed: int  # held-out images of which a code was resampled


@dataclass(frozen=True, kw_only=True)
class _Unjudged:
    """A detector of the networks with statistics of some of the folds; it judges nothing."""

    joined: Detector  # the networks, in the joined form
    roi: RegionOfInterest | None
    statistics: LocalStatistics
    segmenter: Segmenter | None
    usual: Usual

    @property
    def settings(self) -> Settings:
        """Those of the networks."""
        return self.joined.settings

    def evidence(self, batch: Images, placements: Sequence[Placement]) -> Evidence:
        """That of the networks, with fields of local statistics and segmenter."""
        fields = local_fields(self.statistics, self.segmenter, batch, placements)
        return replace(self.joined.evidence(batch, placements), local_fields=fields)

    def witness_fields(self, found: Evidence) -> list[dict[str, Field]]:
        """The fields of all witnesses."""
        return witnesses.fields_of(
            found.local_fields,
            found.surprisals,
            found.differences,
            self.usual,
            cells_of(found.placements, self.settings.vqvae.latent_size),
        )


def plain_scores(images: TiledImages, detector: Detector) -> tuple[list[float], int]:
    """Scores of the held-out images in the form plain, and how many have a changed code."""
    found = [detector.inspect_whole(images.read(name))[0] for name in images.held_out]
    return [each.scores[0] for each in found], sum(each.codes_changed[0] > 0 for each in found)


def fit(
    images: TiledImages,
    joined: Detector,
    options: TrainOptions,
    *,
    segmenter: SegmenterOptions | None,
) -> TiledForm:
    """Fit to normal images; ``joined`` is a detector of the networks in the joined form."""
    local = fit_statistics(images.tiles, groups=images.groups, seed=options.seed, shared=True)
    fitted = None
    if segmenter is not None:
        learned = np.arange(len(local.fields))
        fitted = fit_segmenter(
            local, images.tiles, learned, segmenter, seed=options.seed, device=joined.device
        )
    usual, expected = _usual(images, joined)
    looked_at = []
    for name in images.scored(joined.settings.vqvae.image_size_px):
        statistics, segmenter_of_others = _unseen(images, name, local, fitted)
        unjudged = _Unjudged(
            joined=joined,
            roi=images.roi,
            statistics=statistics,
            segmenter=segmenter_of_others
            and in_precision(segmenter_of_others, joined.settings.precision),
            usual=expected.get(name, usual),
        )
        looked_at.append(_look_at(images, name, unjudged))
    held_out = looked_at[: len(images.held_out)]
    weights = witnesses.weights(with_segmenter=fitted is not None)
    measured = tuple(
        witnesses.measure_large(
            name,
            [each.fields[name] for each in held_out],
            weight=weight,
            places=[each.places for each in held_out],
        )
        for name, weight in weights.items()
    )
    rule, threshold, scores = _rule(looked_at, measured, joined, options, images.roi)
    return TiledForm(
        statistics=local.statistics,
        segmenter=fitted.segmenter if fitted else None,
        usual=usual,
        witnesses=measured,
        rule=rule,
        threshold=threshold,
        scores=scores,
        num_changed=sum(each.num_changed > 0 for each in held_out),
    )


def _usual(images: TiledImages, joined: Detector) -> tuple[Usual, dict[str, Usual]]:
    """The usual surprisal of the held-out images, and for each of them that of the others."""
    each = len(images.held_out_tiles) // len(images.held_out)
    step = max(1, len(images.held_out_tiles) // _MOST_USUAL)
    positions = range(0, len(images.held_out_tiles), step)
    owners = [images.held_out[at // each] for at in positions]
    nats: list[Surprisal] = []
    for chunk in images.held_out_tiles[list(positions)].split(_BATCH_SIZE):
        nats += joined.evidence(to_images(chunk)).surprisals
    usual = _placeless(nats, joined)
    expected = {}
    for name in images.held_out:
        others = [one for one, owner in zip(nats, owners, strict=True) if owner != name]
        expected[name] = _placeless(others, joined) if others else usual
    return usual, expected


def _placeless(nats: Sequence[Surprisal], joined: Detector) -> Usual:
    # Of a texture it is the same everywhere.
    return surprisal.usual(nats, "texture", eta=joined.settings.resample.eta)


def _unseen(
    images: TiledImages, name: str, local: FittedStatistics, fitted: FittedSegmenter | None
) -> tuple[LocalStatistics, Segmenter | None]:
    """The statistics and the segmenter that did not learn from an image."""
    group = images.group_of.get(name)
    for n, fold in enumerate(local.folds):
        if group in {images.groups[local.positions[at]] for at in fold.own.tolist()}:
            # As the inspection standardises.
            fold.others.standard.copy_(local.statistics.standard)
            return fold.others, fitted.by_fold[n] if fitted else None
    return local.statistics, fitted.segmenter if fitted else None


@dataclass(frozen=True, kw_only=True)
class _LookedAt:
    """The fields of one whole image, in a file: those of all images may be larger than memory."""

    fields: dict[str, Field]
    places: Places | None  # of the fields, that count
    grid: TileGrid
    num_changed: int  # codes


def _look_at(images: TiledImages, name: str, unjudged: _Unjudged) -> _LookedAt:
    image = images.read(name)
    grid = images.grid(image, unjudged.settings.vqvae.image_size_px)
    whole = look_at(unjudged, image, grid, batch_size=_BATCH_SIZE)
    return _LookedAt(
        fields={witness: _kept(field) for witness, field in whole.fields.items()},
        places=whole.places,
        grid=whole.grid,
        num_changed=whole.num_changed,
    )


def _kept(field: Field) -> Field:
    with tempfile.TemporaryFile() as file:
        found = np.memmap(file, dtype=np.float32, mode="w+", shape=field.shape)
    found[:] = field
    return found


def _rule(
    looked_at: Sequence[_LookedAt],
    measured: Sequence[Witness],
    joined: Detector,
    options: TrainOptions,
    roi: RegionOfInterest | None,
) -> tuple[AreaRule, float, list[float]]:
    """Rule and threshold by the joined fields, and the score of each image."""
    settings = joined.settings
    some, levels = list[Strongest](), list[float]()
    for each in looked_at:
        size = map_size(
            each.grid,
            size_px=settings.vqvae.image_size_px,
            minimum_area_px=settings.minimum_area_px,
            roi=roi,
        )
        field = join_fields(each.fields, measured)
        some.append(strongest(field, places=places_of(field, each.grid), counted=each.places))
        levels.append(score(size.wide(field), minimum_area_px=size.minimum_area_px))
    usual = usual_areas([each.field for each in some], [each.places for each in some])
    scores = [area_score(each.field, usual, each.places) for each in some]
    threshold = calibrate.cross_fitted_threshold(scores, quantile=options.threshold_quantile)
    return rule_of(usual, threshold, levels), threshold, scores
