"""Fit local statistics, and score every normal image by parts that were not fitted on it.

Normal images are dealt into folds. Each fold is measured by statistics of the other folds, so all
images, not only a held-out tenth, say what is usual and where the threshold lies. The statistics
that are kept are fitted on all of them. Harmless copies of some images are fitted and scored like
them, each in the fold of its image; what is standardised is so by the images alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, Integer
from numpy import ndarray
from torch import Tensor

from vqad.detection import local_statistics
from vqad.detection.local_features import FeatureOptions, OwnPicture, differs_in_exposure, is_grey
from vqad.detection.local_statistics import Field, LocalStatistics, features_of
from vqad.images.decoding import to_unit
from vqad.images.placement import Placement, SomePlaces, places_of
from vqad.training.harmless_copies import harmless_copies

NUM_FOLDS: Final = 9
# Groups of images. On fibre, whose images are frames of a moving camera, single images dealt to
# folds called .39 of the good test images defective with the segmenter below, runs of 5 called .06.
_LONGEST_RUN: Final = 5
MOST_IMAGES: Final = 300  # beyond it, some of them: memory is bounded, and more brought nothing
_LOOKED_AT: Final = 60  # images that decide whether a product is grey, or differs in exposure


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Some of the images, and statistics that were fitted on all but them."""

    own: Int64[ndarray, " num"]  # positions among the images that were used
    others: LocalStatistics


@dataclass(frozen=True, kw_only=True)
class FittedStatistics:
    """Local statistics, and what they say of the normal images that did not shape it."""

    statistics: LocalStatistics
    positions: list[int]  # of the normal images that were used, then of those that were copied
    copies: Integer[ndarray, "num_copies height width 3"]  # pixels of the harmless copies
    features: Tensor  # of each image and then of each copy, as all that follows
    folds: list[Fold]
    distances: Float32[ndarray, "2 num rows cols"]  # of each, by statistics of other folds
    fields: list[Field]  # of each, by its distances
    placements: list[Placement] | None  # of each in the model's input; None if all are square

    @property
    def num_images(self) -> int:
        """Number of images that are no copies; the copies follow them."""
        return len(self.positions) - len(self.copies)

    @cached_property
    def places(self) -> SomePlaces | None:
        """The places of each that count; None if all do."""
        return _places(self.placements, self.statistics.config.features)


def fit_statistics(
    pixels: Integer[ndarray, "num height width 3"],
    *,
    groups: Sequence[str],
    seed: int,
    num_copies: int = 0,
    shared: bool = False,
    placements: Sequence[Placement] | None = None,
    aligned: bool = False,
) -> FittedStatistics:
    """Fit to decoded normal images, uint8 or uint16; images of one group are in one fold.

    ``num_copies`` of the images, at most all, have a harmless copy. With ``shared``, all places
    share one bank, and the exposure of a picture, which is one of several tiles, explains nothing.
    ``placements`` say where the source images lie in the pixels; None is all over them. Copies of
    images that are ``aligned`` are not moved.

    Raises ValueError where there are fewer than two groups.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pixels))[:MOST_IMAGES]
    images, copied = np.sort(order), np.sort(order[:num_copies])
    positions = [*images.tolist(), *copied.tolist()]
    # A generator of its own: the folds are the same with and without copies.
    its = None if placements is None else [placements[at] for at in positions]
    copies = harmless_copies(
        pixels[copied],
        np.random.default_rng([seed, 1]),
        its[len(images) :] if its else None,
        moved=not aligned,
    )
    shown = [
        its[at].cropped(pixels[images[at]]) if its else pixels[images[at]]
        for at in _some(len(images))
    ]
    options = _options([to_unit(each) for each in shown], shared, image_size_px=pixels.shape[1])
    pictures = chain((pixels[at] for at in images), copies)
    found = features_of((to_unit(each) for each in pictures), options)
    places = _places(its, options)
    of_images = folds([groups[at] for at in images], rng)
    fold_of = np.concatenate([of_images, of_images[np.searchsorted(images, copied)]])
    dealt = [
        Fold(
            own=np.flatnonzero(fold_of == fold),
            others=local_statistics.fit(
                found[fold_of != fold],
                options,
                seed=seed,
                shared=shared,
                places=None if places is None else places[fold_of != fold],
            ),
        )
        for fold in np.unique(fold_of)
    ]
    distances = _cross_fitted(found, dealt, places)
    statistics = local_statistics.fit(found, options, seed=seed, shared=shared, places=places)
    of_images_alone = slice(len(images))
    statistics.standard.copy_(
        local_statistics.standard_of(
            distances[:, of_images_alone], None if places is None else places[of_images_alone]
        )
    )
    return FittedStatistics(
        statistics=statistics,
        positions=positions,
        copies=copies,
        features=found,
        folds=dealt,
        distances=distances,
        fields=statistics.fields(distances),
        placements=its,
    )


def _places(placements: Sequence[Placement] | None, options: FeatureOptions) -> SomePlaces | None:
    return None if placements is None else places_of(placements, options.grid)


def _some(num: int) -> Int64[ndarray, " some"]:
    """Evenly spaced positions: neighbours in a list are often of one part or one day."""
    return np.unique(np.linspace(0, num - 1, min(num, _LOOKED_AT)).round().astype(np.int64))


def _options(pictures: Sequence[OwnPicture], shared: bool, *, image_size_px: int) -> FeatureOptions:
    return FeatureOptions(
        image_size_px=image_size_px,
        grey=is_grey(pictures),
        exposure=not shared and differs_in_exposure(pictures),
    )


def among_others(num_others: int, num_held_out: int, *, seed: int) -> Int64[ndarray, " num"]:
    """Positions of the other good images that are used beside the held-out ones."""
    order = np.random.default_rng(seed).permutation(num_others)
    return np.sort(order[: max(0, MOST_IMAGES - num_held_out)])


def group_names(
    names: Sequence[str], pattern: str | None, *, copies: Sequence[Sequence[int]] = ()
) -> list[str]:
    """The group of each image: the pattern's first group, else its name.

    ``copies`` are groups of positions, as `near_copies` finds them. Groups that have copies of each
    other become one.
    """
    found = [re.search(pattern, name) if pattern else None for name in names]
    groups = [(each and each.group(1)) or name for each, name in zip(found, names, strict=True)]
    for positions in copies:
        joined = {groups[position] for position in positions}
        groups = [min(joined) if group in joined else group for group in groups]
    return groups


def folds(groups: Sequence[str], rng: np.random.Generator) -> Int64[ndarray, " num"]:
    """The fold of each image, by its group; the largest go first, each to the smallest fold.

    Groups whose names follow each other, such as those of 10.png and 11.png, stay together in short
    runs: they are often frames of one part, and an image whose neighbour was learned from is not
    new.
    """
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"{len(groups)} images in {len(names)} group(s): at least 2 groups are needed, so that "
            "each is scored by statistics of others"
        )
    runs = _runs(names.tolist())
    sizes_of_runs = np.array([sizes[run].sum() for run in runs])
    order = rng.permutation(len(runs))
    order = order[np.argsort(-sizes_of_runs[order], kind="stable")]
    fold_of, filled = np.zeros(len(names), np.int64), np.zeros(min(NUM_FOLDS, len(runs)))
    for at in order:
        smallest = int(filled.argmin())
        fold_of[runs[at]] = smallest
        filled[smallest] += sizes_of_runs[at]
    return fold_of[group_of]


def _runs(names: Sequence[str]) -> list[list[int]]:
    """Positions of names that follow each other, such that each fold has at least two runs."""
    length = max(1, min(_LONGEST_RUN, len(names) // (2 * NUM_FOLDS)))
    order = sorted(range(len(names)), key=lambda at: _by_numbers(names[at]))
    return [order[start : start + length] for start in range(0, len(order), length)]


def _by_numbers(name: str) -> list[str | int]:
    """A key that sorts 9.png before 10.png: text and numbers in turn."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)]


def _cross_fitted(
    found: Tensor, dealt: Sequence[Fold], places: SomePlaces | None
) -> Float32[ndarray, "2 num rows cols"]:
    distances = np.zeros((2, *found.shape[:3]), np.float32)
    for fold in dealt:
        for some in np.array_split(fold.own, 1 + len(found) // 24):
            if some.size:
                its = None if places is None else places[some]
                distances[:, some] = fold.others.distances(found[some], its)
        fold.others.release()
    return distances
