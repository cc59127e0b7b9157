"""Fit what the form `full` needs beside the networks: local statistics, a segmenter, witnesses.

Local statistics are fitted on all normal images, and each of these is measured by statistics that
were not fitted on it. The networks are not fitted again for that, so the surprisal and the
difference are standardised on the held-out images alone. Training images count in the threshold as
well, by cross-fitted local statistics and segmenters, and by the networks that saw them: a little
too normal. A preset may add harmless copies of some images (`harmless_copies`). Local statistics
are fitted on them as well, and they have a part in the threshold, so that a dimmer lamp or a small
shift makes no defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray
from torch import Tensor

from vqad.array_types import AnomalyMap
from vqad.detection import calibrate, surprisal, witnesses
from vqad.detection.area_score import AreaRule, fit_rule
from vqad.detection.local_statistics import Field, LocalStatistics
from vqad.detection.surprisal import Surprisal, Usual
from vqad.detection.witnesses import Witness, join_fields, measure_witness
from vqad.detector import Detector
from vqad.images.placement import Placement, Size, SomePlaces, places_of
from vqad.images.tensors import to_images, to_tensor
from vqad.model.segmenter import Segmenter
from vqad.training import near_copies
from vqad.training.harmless_copies import change_of
from vqad.training.local_statistics import FittedStatistics, fit_statistics, group_names
from vqad.training.options import TrainOptions
from vqad.training.segmenter import FittedSegmenter, SegmenterOptions, fit_segmenter

MOST_TRAINING_IMAGES: Final = 100  # that the networks inspect for the threshold; a guess
BATCH_SIZE: Final = 16  # images that are inspected at once


@dataclass(frozen=True, kw_only=True)
class NormalImages:
    """Normal images of one category, the held-out ones first."""

    names: list[str]
    pixels: Tensor  # (num, size, size, 3), uint8, or int32 of 16-bit values
    num_held_out: int
    copies: list[list[int]]  # groups of positions, as `near_copies` finds them
    # The last ones, confirmed false alarms: local statistics and segmenter learn from them, but
    # their scores set no threshold.
    num_reviewed: int = 0
    sources: list[Size] | None = None  # width and height of each in its file; None if square

    @classmethod
    def of(
        cls,
        held_out: Tensor,
        others: Tensor,
        *,
        names: Sequence[str],
        copies: list[list[int]] | None = None,
        num_reviewed: int = 0,
        sources: Sequence[Size] | None = None,
    ) -> "NormalImages":
        """The two sets as one. Copies are searched for unless they are known already."""
        # One of them may have 8 bits a value where the other has 16: 257 v / 65535 = v / 255.
        wide = torch.int32 in (held_out.dtype, others.dtype)
        parts = [
            each.int() * 257 if wide and each.dtype == torch.uint8 else each
            for each in (held_out, others)
        ]
        pixels = torch.cat([each.to(held_out.device) for each in parts])
        return cls(
            names=list(names),
            pixels=pixels,
            num_held_out=len(held_out),
            copies=near_copies.copies(_as_numpy(pixels)) if copies is None else copies,
            num_reviewed=num_reviewed,
            sources=None if sources is None else list(sources),
        )

    def as_numpy(self) -> np.ndarray:
        """The pixels as uint8 or uint16."""
        return _as_numpy(self.pixels)


def _as_numpy(pixels: Tensor) -> np.ndarray:
    found = pixels.cpu().numpy()
    return found if found.dtype == np.uint8 else found.astype(np.uint16)


@dataclass(frozen=True, kw_only=True)
class FullForm:
    """What was fitted, and the fields of normal images and then of harmless copies of some."""

    statistics: LocalStatistics
    segmenter: Segmenter | None
    usual: Usual
    witnesses: tuple[Witness, ...]
    by_witness: list[dict[str, Field]]  # of each image, by statistics that did not see it
    changes: list[int]  # of each copy; the copies are the last of the fields
    held_out: list[int]  # positions among these of the held-out images, without copies
    num_changed: int  # held-out images of which a code was resampled
    placements: list[Placement]  # of each image and copy in the model's input

    def rule(
        self, some: Sequence[Witness], options: TrainOptions, *, size_px: int, minimum_area_px: int
    ) -> tuple[AreaRule, float, list[float]]:
        """Rule and threshold by some of the witnesses, and the score of each image by the rule."""
        fields = [join_fields(each, some) for each in self.by_witness]
        num_images = len(fields) - len(self.changes)
        copies: dict[int, list[int]] = {}
        for at, change in enumerate(self.changes, num_images):
            copies.setdefault(change, []).append(at)
        return fit_rule(
            fields[:num_images],
            threshold_of=partial(
                calibrate.cross_fitted_threshold, quantile=options.threshold_quantile
            ),
            size_px=size_px,
            minimum_area_px=minimum_area_px,
            copies=[[fields[at] for at in some] for some in copies.values()],
            threshold_of_copies=partial(
                calibrate.threshold,
                quantile=options.threshold_quantile or calibrate.COPIES_QUANTILE,
                smallest=0.0,
            ),
            placements=self.placements[:num_images],
            placements_of_copies=[[self.placements[at] for at in some] for some in copies.values()],
        )


def fit(
    normal: NormalImages,
    joined: Detector,
    options: TrainOptions,
    *,
    segmenter: SegmenterOptions | None,
    num_copies: int = 0,
    aligned: bool = False,
) -> FullForm:
    """Fit to normal images; ``joined`` is a detector of the networks in the joined form.

    ``num_copies`` of the images, at most all, have a harmless copy; the pixels may be ``aligned``.
    """
    decoded = normal.as_numpy()
    groups = group_names(normal.names, options.heldout_group, copies=normal.copies)
    local = fit_statistics(
        decoded,
        groups=groups,
        seed=options.seed,
        num_copies=num_copies,
        placements=joined.geometry.placements(len(decoded), normal.sources),
        aligned=aligned,
    )
    fitted = None
    if segmenter is not None:
        learned = _learned(local, normal.num_held_out)
        fitted = fit_segmenter(
            local,
            decoded,
            learned,
            segmenter,
            seed=options.seed,
            precision=joined.settings.precision,
            device=joined.device,
        )
    looked_at = _look_at(normal, local, joined, aligned=aligned)
    usual, expected = _usual(looked_at, normal.num_held_out, joined)
    fields = _fields(looked_at, _without_codes(local, fitted), expected)
    held_out = [fields[at] for at in looked_at.held_out]
    places = places_of(
        [looked_at.placements[at] for at in looked_at.held_out],
        local.statistics.config.features.grid,
    )
    return FullForm(
        statistics=local.statistics,
        segmenter=fitted.segmenter if fitted else None,
        usual=usual,
        witnesses=_measured(held_out, places, with_segmenter=fitted is not None),
        by_witness=fields,
        changes=looked_at.changes,
        held_out=looked_at.held_out,
        num_changed=sum(int(looked_at.differences[at].any()) for at in looked_at.held_out),
        placements=looked_at.placements,
    )


@dataclass(frozen=True, kw_only=True)
class _LookedAt:
    """The evidence of the networks on normal images, and then on harmless copies of some."""

    positions: list[int]  # of these among those of the local statistics
    images: list[int]  # positions among the normal images, of a copy that of its image
    changes: list[int]  # of each copy
    held_out: list[int]  # positions of the held-out images among these, without copies
    placements: list[Placement]
    differences: list[AnomalyMap]
    surprisals: list[Surprisal]


def _look_at(
    normal: NormalImages, local: FittedStatistics, joined: Detector, *, aligned: bool
) -> _LookedAt:
    """Inspect the held-out images and some of the others, of those that local statistics took."""
    num_scored = len(normal.names) - normal.num_reviewed
    most = min(normal.num_held_out + MOST_TRAINING_IMAGES, num_scored)
    positions = [at for at, image in enumerate(local.positions) if image < most]
    images = [local.positions[at] for at in positions]
    copies = [at - local.num_images for at in positions if at >= local.num_images]
    num = len(positions) - len(copies)
    pixels = normal.pixels[images[:num]]
    if copies:
        pixels = torch.cat([pixels, to_tensor(local.copies[copies]).to(pixels.device)])
    sources = None if normal.sources is None else [normal.sources[image] for image in images]
    placements = joined.geometry.placements(len(images), sources)
    differences, surprisals = inspected_in_batches(joined, pixels, placements)
    return _LookedAt(
        positions=positions,
        images=images,
        changes=[change_of(at, moved=not aligned) for at in copies],
        held_out=[n for n, image in enumerate(images[:num]) if image < normal.num_held_out],
        placements=placements,
        differences=differences,
        surprisals=surprisals,
    )


def _fields(
    looked_at: _LookedAt, without_codes: Sequence[dict[str, Field]], expected: Sequence[Usual]
) -> list[dict[str, Field]]:
    """The fields of all witnesses; ``expected`` is what the surprisal of each is compared with."""
    found = zip(
        looked_at.positions,
        looked_at.surprisals,
        looked_at.differences,
        expected,
        looked_at.placements,
        strict=True,
    )
    return [
        witnesses.fields_of(
            [without_codes[at]], [nats], [difference], usual, places_of([its], len(usual.fine))
        )[0]
        for at, nats, difference, usual, its in found
    ]


def _measured(
    held_out: Sequence[dict[str, Field]], places: SomePlaces | None, *, with_segmenter: bool
) -> tuple[Witness, ...]:
    """The witnesses, standardised on the fields of the held-out images."""
    return tuple(
        measure_witness(name, [fields[name] for fields in held_out], weight=weight, places=places)
        for name, weight in witnesses.weights(with_segmenter=with_segmenter).items()
    )


def _learned(local: FittedStatistics, num_held_out: int) -> Int64[ndarray, " learned"]:
    """The images that a segmenter is fitted to: those of the training, or at least half of all.

    Of thousands of images, so many are held out that local statistics take hardly any others.
    """
    num = local.num_images
    return np.flatnonzero(np.array(local.positions[:num]) >= min(num_held_out, num // 2))


def _without_codes(
    local: FittedStatistics, fitted: FittedSegmenter | None
) -> list[dict[str, Field]]:
    """The fields of each normal image by what needs no network over codes."""
    found = [{witnesses.LOCAL: field} for field in local.fields]
    if fitted is None:
        return found
    pairs = zip(found, fitted.fields, strict=True)
    return [one | {witnesses.SEGMENTER: field} for one, field in pairs]


def inspected_in_batches(
    detector: Detector, pixels: Tensor, placements: Sequence[Placement]
) -> tuple[list[AnomalyMap], list[Surprisal]]:
    """Differences and surprisals of decoded images (num, size, size, 3)."""
    found = [
        detector.evidence(to_images(pixels[at : at + BATCH_SIZE]), placements[at : at + BATCH_SIZE])
        for at in range(0, len(pixels), BATCH_SIZE)
    ]
    differences = [one for each in found for one in each.differences]
    return differences, [one for each in found for one in each.surprisals]


def _usual(looked_at: _LookedAt, num_held_out: int, joined: Detector) -> tuple[Usual, list[Usual]]:
    """The usual surprisal on the held-out images, and what that of each image is compared with.

    A held-out image, and a copy of it, are compared with the other held-out images.
    """
    kind, eta = joined.settings.kind, joined.settings.resample.eta
    images, surprisals = looked_at.images, looked_at.surprisals
    cells = places_of(looked_at.placements, joined.settings.vqvae.latent_size)

    def usual_of(some: list[int]) -> Usual:
        return surprisal.usual(
            [surprisals[at] for at in some],
            kind,
            eta=eta,
            cells=None if cells is None else cells[some],
        )

    usual = usual_of(looked_at.held_out)
    expected = [usual] * len(surprisals)
    for at, image in enumerate(images):
        if image >= num_held_out:
            continue
        others = [other for other in looked_at.held_out if images[other] != image]
        if others:
            expected[at] = usual_of(others)
    return usual, expected
