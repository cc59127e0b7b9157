"""Local statistics: how unusual the features of each place are among those of normal images.

    features -> less what the whole image explains -> distances L and M -> one field

`local_features` has the features, `image_context` the image's share in them, `local_gaussian` the
metric of each place, `local_neighbours` the distances. Each distance is smoothed and standardised
by what it is on normal images that the statistics were not fitted on. The field is their weighted
mean, in units of the usual largest value of a normal image.

The parts are kept in half precision: what is fitted and what is loaded then give equal bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor, nn

from vqad.array_types import Images
from vqad.detection import batched_features, image_threads
from vqad.detection.image_context import ImageContext, fit_context, no_context
from vqad.detection.local_features import FeatureOptions, features
from vqad.detection.local_gaussian import fit_gaussian, over_places
from vqad.detection.local_neighbours import LocalNeighbours, fit_neighbours
from vqad.detection.local_residuals import UsualPlaces, residuals, usual_places
from vqad.detection.shared_neighbours import MOST_SHARED, SharedNeighbours, fit_shared
from vqad.images.placement import SomePlaces

Field = Float32[ndarray, "grid_rows grid_cols"]  # of places; square, but for a whole image of tiles

MOST_IN_BANK: Final = 64  # images; 50 and 100 of them did alike on the products that were tried
_WEIGHTS: Final = (1 / 3, 2 / 3)  # of L and M
_SMOOTHING_CELLS: Final = 0.75
# Of normal images that are all equal, whose distances are all 0; those of photographs are several.
_SMALLEST_DEVIATION: Final = 1e-3
SMALLEST_LARGEST: Final = 1.0  # deviations


@dataclass(frozen=True, kw_only=True)
class LocalStatisticsConfig:
    """Sizes of fitted local statistics."""

    features: FeatureOptions
    num_in_bank: int  # images; features where they are shared
    num_components: int  # of an image's context
    shared: bool = False  # all places are compared with the same features, as those of tiles are

    def __post_init__(self) -> None:
        """Refuse sizes that nothing can be loaded into."""
        most = MOST_SHARED if self.shared else MOST_IN_BANK
        if not 1 <= self.num_in_bank <= most:
            raise ValueError(f"num_in_bank must be from 1 to {most}, got {self.num_in_bank}")
        if self.num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {self.num_components}")


class LocalStatistics(nn.Module):
    """Fitted local statistics of one product."""

    centre: Tensor
    axes: Tensor
    weights: Tensor
    to_white: Tensor
    bank: Tensor
    metric: Tensor
    standard: Tensor

    def __init__(self, config: LocalStatisticsConfig) -> None:
        super().__init__()
        self.config = config
        grid, channels = 1 if config.shared else config.features.grid, config.features.num_channels
        num, components = config.num_in_bank, config.num_components
        shapes = {
            "centre": (channels,),
            "axes": (channels, components),
            "weights": (grid, grid, components, channels),
            "to_white": (channels, channels),
            "bank": (grid, grid, channels, num),
            "metric": (grid, grid, channels, channels),
            "standard": (2, 3),  # mean, deviation and largest value of L and of M
        }
        for name, shape in shapes.items():
            dtype = torch.float16 if len(shape) > 2 else torch.float32
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        self._unpacked: tuple[ImageContext, LocalNeighbours | SharedNeighbours] | None = None
        self._usual: UsualPlaces | None = None

    def features(self, images: Images) -> Tensor:
        """Features (num, rows, cols, channels) of images, RGB in [0, 1], on the own device."""
        if images.is_cuda:
            found = batched_features.features(images, self.config.features)
        else:
            found = features_of(images.movedim(1, -1).numpy(), self.config.features)
        return found.to(self.centre.device)

    def distances(
        self, found: Float32[Tensor, "num rows cols channels"], places: SomePlaces | None = None
    ) -> ndarray:
        """Smoothed distances L and M, (2, num, rows, cols), of features.

        ``places`` are those that count of each image, None for all: the rest of an image explains
        nothing of them.
        """
        context, neighbours = self._parts()
        both = neighbours.distances(context.left(found, places))
        return np.stack([[smooth(field) for field in one.cpu().numpy()] for one in both])

    @torch.inference_mode()
    def residuals(
        self,
        found: Float32[Tensor, "num rows cols channels"],
        distances: Float32[ndarray, "2 num rows cols"],
        places: SomePlaces | None = None,
    ) -> Float32[Tensor, "num residual_channels rows cols"]:
        """Residuals of features and of their distances, for a segmenter."""
        context, neighbours = self._parts()
        if self._usual is None:
            self._usual = usual_places(neighbours)
        return residuals(context.left(found, places), distances, self._usual, self.to_white)

    def fields(self, distances: Float32[ndarray, "2 num rows cols"]) -> list[Field]:
        """One field of each image from its distances."""
        mean, deviation, largest = self.standard.cpu().numpy().T[..., None, None, None]
        standardised = (distances - mean) / deviation / largest
        weights = np.array(_WEIGHTS, np.float32)[:, None, None, None]
        return list((weights * standardised).sum(0))

    def inspect(
        self,
        pictures: Float32[ndarray, "num height width 3"],
        places: SomePlaces | None = None,
    ) -> list[Field]:
        """The field of each picture."""
        found = features_of(pictures, self.config.features).to(self.centre.device)
        return self.fields(self.distances(found, places))

    def release(self) -> None:
        """Free the parts in single precision; the next use makes them again."""
        self._unpacked = self._usual = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.release()  # they were made of the parts before

    def _apply(self, *args: Any, **kwargs: Any) -> "LocalStatistics":
        self.release()  # the parts move to another device
        return super()._apply(*args, **kwargs)

    def _parts(self) -> tuple[ImageContext, LocalNeighbours | SharedNeighbours]:
        """The parts in single precision, made once."""
        if self._unpacked is None:
            metric = self.metric.float()
            neighbours = SharedNeighbours if self.config.shared else LocalNeighbours
            self._unpacked = (
                ImageContext(centre=self.centre, axes=self.axes, weights=self.weights.float()),
                neighbours(
                    to_white=self.to_white,
                    bank=self.bank.float(),
                    precision=metric @ metric.mT,
                ),
            )
        return self._unpacked


def fit(
    found: Float32[Tensor, "num rows cols channels"],
    options: FeatureOptions,
    *,
    seed: int,
    shared: bool = False,
    places: SomePlaces | None = None,
) -> LocalStatistics:
    """Fit to features of normal images. It is not standardised yet: see `standard_of`.

    What is measured over all places is so over ``places``, those that count of each image.
    """
    context, neighbours = (_fit_shared if shared else _fit_by_place)(found, seed, places)
    config = LocalStatisticsConfig(
        features=options,
        num_in_bank=neighbours.bank.shape[-1],
        num_components=context.axes.shape[1],
        shared=shared,
    )
    statistics = LocalStatistics(config)
    statistics.load_state_dict(
        {
            "centre": context.centre,
            "axes": context.axes,
            "weights": context.weights,
            "to_white": neighbours.to_white,
            "bank": neighbours.bank,
            "metric": torch.linalg.cholesky(neighbours.precision),
            "standard": torch.tensor([[0.0, 1.0, 1.0]] * 2),
        }
    )
    return statistics


def _fit_by_place(
    found: Tensor, seed: int, places: SomePlaces | None
) -> tuple[ImageContext, LocalNeighbours]:
    counted = None if places is None else torch.from_numpy(places)
    deviation = over_places(found, counted).std(0).clamp(min=1e-6)
    context = fit_context(found, deviation, places)
    left = context.left(found, places)
    gaussian = fit_gaussian(left, counted)
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    chosen = order[:MOST_IN_BANK].sort().values
    of_bank = None if counted is None else counted[chosen]
    return context, fit_neighbours(left[chosen], gaussian, of_bank)


def _fit_shared(
    found: Tensor, seed: int, places: SomePlaces | None
) -> tuple[ImageContext, SharedNeighbours]:
    # Tiles of one image differ by what they show, so a tile as a whole explains nothing of it.
    counted = None if places is None else torch.from_numpy(places)
    flat = over_places(found, counted)
    return no_context(found.shape[-1]), fit_shared(flat[None, None], seed=seed)


def standard_of(
    distances: Float32[ndarray, "2 num rows cols"], places: SomePlaces | None = None
) -> Tensor:
    """Mean and deviation of L and M over normal images, and the usual largest value of one."""
    measured = [
        mean_deviation_largest(one, smallest_deviation=_SMALLEST_DEVIATION, places=places)
        for one in distances
    ]
    return torch.tensor(measured, dtype=torch.float32)


def mean_deviation_largest(
    fields: Float32[ndarray, "num rows cols"],
    *,
    smallest_deviation: float,
    places: SomePlaces | None = None,
) -> tuple[float, float, float]:
    """Mean and deviation over normal images, and the usual largest value in deviations above it.

    Only ``places`` of each image count, if they are given.
    """
    counted = fields if places is None else fields[places]
    mean, deviation = float(counted.mean()), max(float(counted.std()), smallest_deviation)
    standardised = (fields - mean) / deviation
    if places is not None:
        standardised = np.where(places, standardised, np.float32(-np.inf))
    largest = float(np.median(standardised.max((1, 2))))
    return mean, deviation, max(largest, SMALLEST_LARGEST)


def features_of(pictures: Iterable[ndarray], options: FeatureOptions) -> Tensor:
    """Features (num, rows, cols, channels) of pictures, RGB in [0, 1]."""
    found = image_threads.of_each(lambda one: features(one, options), pictures)
    return torch.from_numpy(np.stack(found))


def smooth(field: Field) -> Field:
    """The field averaged over neighbouring places."""
    return cv2.GaussianBlur(field, (0, 0), _SMOOTHING_CELLS)
