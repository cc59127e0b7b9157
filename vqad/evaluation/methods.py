"""Methods beside the detector's own, each as a function of images: ablations and baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from torch import Tensor

from vqad.array_types import Codes
from vqad.detection.stitched import stitched
from vqad.detector import Detector, device
from vqad.evaluation import ablations, witness_ablations
from vqad.evaluation.ablations import BatchResult
from vqad.evaluation.baselines import Baseline, Loss
from vqad.evaluation.local_baseline import LOCAL, LocalBaseline
from vqad.evaluation.witness_ablations import Variant
from vqad.images import decoding
from vqad.images.placement import Geometry, ImageForm, Size
from vqad.images.tensors import filled, to_images, to_tensor
from vqad.storage import files
from vqad.training.options import recorded_options
from vqad.training.recalibrate import normal_images

BATCH_SIZE = 8
_SHOWN_PX = 256  # longer side of a picture of an image with tiles

Batch = tuple[Tensor, list[Size]]  # images, and width and height of their sources
Inspect = Callable[[Tensor, list[Size]], dict[str, BatchResult]]


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The form of the images that a method takes."""

    form: ImageForm
    bits: int  # significant bits of values in 16-bit files


@runtime_checkable
class Method(Protocol):
    """One or more methods that are computed together, as they are sent to the workers."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the methods."""

    def loaded(self) -> tuple[Inspect, ImageInput]:
        """A function from a batch and its source sizes to results by name, and what it takes."""

    def thresholds(self) -> dict[str, float]:
        """Thresholds that were set by the fit, by name; none if held-out images are to set them."""


@dataclass(frozen=True)
class AblatedMethod:
    """A detector and its ablations."""

    models: str
    category: str
    version: str

    @property
    def names(self) -> Sequence[str]:
        """All ablations."""
        return ablations.ABLATIONS

    def thresholds(self) -> dict[str, float]:
        """None: held-out images are to set them."""
        return {}

    def detector(self) -> Detector:
        """The detector, from this worker's cache."""
        return _detector(self.models, self.category, self.version)

    def loaded(self) -> tuple[Inspect, ImageInput]:
        """A function that computes all ablations of a batch."""
        detector = self.detector()
        return lambda *batch: ablations.ablated(detector, *batch), _input_of(detector)


@dataclass(frozen=True)
class BaselineMethod:
    """A fitted baseline."""

    folder: str
    loss: Loss
    geometry: Geometry  # of the detector that it is compared with

    @property
    def names(self) -> Sequence[str]:
        """Its one name."""
        return (self.loss,)

    def thresholds(self) -> dict[str, float]:
        """None: held-out images are to set it."""
        return {}

    def loaded(self) -> tuple[Inspect, ImageInput]:
        """A function that computes maps and scores of a batch."""
        baseline = _baseline(self.folder)

        def inspect(batch: Tensor, sources: list[Size]) -> dict[str, BatchResult]:
            placements = self.geometry.placements(len(batch), sources)
            squares = baseline.anomaly_maps(filled(batch, placements).to(device()))
            maps = [its.map_of(each) for its, each in zip(placements, squares, strict=True)]
            return {baseline.settings.loss: BatchResult(scores=baseline.scores(maps), maps=maps)}

        return inspect, ImageInput(form=self.geometry.form, bits=baseline.settings.bits)


def _input_of(detector: Detector) -> ImageInput:
    settings = detector.settings
    return ImageInput(form=settings.image_form, bits=settings.bits)


@dataclass(frozen=True)
class LocalMethod:
    """Fitted local statistics."""

    folder: str
    geometry: Geometry  # of the detector that it is compared with

    @property
    def names(self) -> Sequence[str]:
        """Its one name."""
        return (LOCAL,)

    def thresholds(self) -> dict[str, float]:
        """Its own: cross-fitted scores of all normal images set it when it was fitted."""
        return {LOCAL: _local_baseline(self.folder).settings.threshold}

    def loaded(self) -> tuple[Inspect, ImageInput]:
        """A function that computes maps and scores of a batch."""
        baseline = _local_baseline(self.folder)

        def inspect(batch: Tensor, sources: list[Size]) -> dict[str, BatchResult]:
            placements = self.geometry.placements(len(batch), sources)
            scores, maps = baseline.inspect(filled(batch, placements), placements)
            return {LOCAL: BatchResult(scores=scores, maps=maps)}

        return inspect, ImageInput(form=self.geometry.form, bits=baseline.settings.bits)


@dataclass(frozen=True)
class WitnessMethod:
    """A detector of the form full, with each of its witnesses alone and with each left out."""

    models: str
    category: str
    version: str
    variants: dict[str, Variant]

    @property
    def names(self) -> Sequence[str]:
        """All variants."""
        return tuple(self.variants)

    def thresholds(self) -> dict[str, float]:
        """Their own, as `witness_method` set them."""
        return {name: each.threshold for name, each in self.variants.items()}

    def loaded(self) -> tuple[Inspect, ImageInput]:
        """A function that computes all variants of a batch."""
        detector = _detector(self.models, self.category, self.version)
        return (
            lambda *batch: witness_ablations.inspect(detector, self.variants, *batch),
            _input_of(detector),
        )


def witness_method(models: str, category: str, version: str, data: str) -> WitnessMethod:
    """Fit the variants of a detector to its normal images below ``data``.

    Raises ValueError if a held-out image is missing.
    """
    detector = _detector(models, category, version)
    seed = recorded_options(detector.settings.found.options, category).seed
    normal = normal_images(data, detector, seed=seed)
    variants = witness_ablations.fit_variants(detector, normal)
    return WitnessMethod(models, category, version, variants)


# A worker keeps the last one that it loaded: its next task is likely to need it again.
@lru_cache(maxsize=1)
def _detector(models: str, category: str, version: str) -> Detector:
    return Detector.load(models, category, version=version).to(device())


@lru_cache(maxsize=1)
def _baseline(folder: str) -> Baseline:
    baseline = Baseline.load(folder)
    baseline.network.to(device())
    return baseline


@lru_cache(maxsize=1)
def _local_baseline(folder: str) -> LocalBaseline:
    return LocalBaseline.load(folder)


def apply(method: Method, uris: list[str], keep_maps: bool) -> Any:
    """Scores of some images, and maps if ``keep_maps``: one such pair for each of the names."""
    inspect, taken = method.loaded()
    found = [inspect(*batch) for batch in _batches(uris, taken)]
    results = []
    for name in method.names:
        scores = np.array([score for each in found for score in each[name].scores])
        maps = [one for each in found for one in each[name].maps or ()]
        results.append((scores, maps if keep_maps and maps else None))
    return results[0] if len(results) == 1 else tuple(results)


def _batches(uris: Sequence[str], taken: ImageInput) -> list[Batch]:
    contents = (files.read_bytes(uri, max_bytes=decoding.MAX_BYTES) for uri in uris)
    decoded = [decoding.decode_as(taken.form, each) for each in contents]
    stacked = to_tensor(decoding.stack([each.pixels for each in decoded], bits=taken.bits))
    return [
        (
            to_images(stacked[at : at + BATCH_SIZE]),
            [each.source_px for each in decoded[at : at + BATCH_SIZE]],
        )
        for at in range(0, len(decoded), BATCH_SIZE)
    ]


def decodings(
    method: AblatedMethod, uris: list[str]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The image, its direct and its restored decoding, for each URI; 8-bit RGB."""
    detector, found = method.detector(), []
    if detector.settings.tiling is not None:
        return [_decodings_of_tiles(detector, uri) for uri in uris]
    with torch.inference_mode():
        for batch, sources in _batches(uris, _input_of(detector)):
            placements = detector.placements(batch, sources)
            codes = detector.vqvae.encode(filled(batch, placements).to(detector.device))
            pictures = (
                (batch * 255).round().byte().movedim(1, -1).numpy(),
                detector.pictures(codes),
                detector.pictures(detector.resample(codes).codes),
            )
            found += [
                (its.cropped(one), its.picture_of(direct), its.picture_of(restored))
                for its, one, direct, restored in zip(placements, *pictures, strict=True)
            ]
    return found


def _decodings_of_tiles(detector: Detector, uri: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = decoding.decode_whole(files.read_bytes(uri, max_bytes=decoding.MAX_BYTES))
    _, whole = detector.inspect_whole(image)

    def pictures_of(codes: Codes) -> np.ndarray:
        return detector.pictures(codes.to(detector.device))

    with torch.inference_mode():
        direct, restored = (
            stitched(whole.grid, codes, pictures_of, most_px=_SHOWN_PX)
            for codes in (whole.codes, whole.restored_codes)
        )
    pixels = decoding.to_full_range(image.small(_SHOWN_PX), detector.settings.bits)
    shown = (decoding.to_unit(pixels) * 255).round().astype(np.uint8)
    rows, cols = direct.shape[:2]
    return cv2.resize(shown, (cols, rows), interpolation=cv2.INTER_AREA), direct, restored
