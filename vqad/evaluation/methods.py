"""Methods beside the detector's own, each as a function of images: ablations and baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vqad.detector import Detector, device
from vqad.evaluation import ablations, witness_ablations
from vqad.evaluation.ablations import BatchResult
from vqad.evaluation.baselines import Baseline, Loss
from vqad.evaluation.local_baseline import LOCAL, LocalBaseline
from vqad.evaluation.witness_ablations import Variant
from vqad.images import decoding
from vqad.images.tensors import to_images, to_tensor
from vqad.storage import files
from vqad.training.options import recorded_options
from vqad.training.recalibrate import normal_images

BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The form of the images that a method takes."""

    size_px: int
    bits: int  # significant bits of values in 16-bit files


@runtime_checkable
class Method(Protocol):
    """One or more methods that are computed together, as they are sent to the workers."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the methods."""

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, BatchResult]], ImageInput]:
        """A function from a batch to results by name, and the form of its images."""

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

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, BatchResult]], ImageInput]:
        """A function that computes all ablations of a batch."""
        detector = self.detector()
        return lambda batch: ablations.ablated(detector, batch), _input_of(detector)


@dataclass(frozen=True)
class BaselineMethod:
    """A fitted baseline."""

    folder: str
    loss: Loss

    @property
    def names(self) -> Sequence[str]:
        """Its one name."""
        return (self.loss,)

    def thresholds(self) -> dict[str, float]:
        """None: held-out images are to set it."""
        return {}

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, BatchResult]], ImageInput]:
        """A function that computes maps and scores of a batch."""
        baseline = _baseline(self.folder)

        def inspect(batch: Tensor) -> dict[str, BatchResult]:
            maps = baseline.anomaly_maps(batch.to(device()))
            return {baseline.settings.loss: BatchResult(scores=baseline.scores(maps), maps=maps)}

        settings = baseline.settings
        return inspect, ImageInput(size_px=settings.network.image_size_px, bits=settings.bits)


def _input_of(detector: Detector) -> ImageInput:
    settings = detector.settings
    return ImageInput(size_px=settings.vqvae.image_size_px, bits=settings.bits)


@dataclass(frozen=True)
class LocalMethod:
    """Fitted local statistics."""

    folder: str

    @property
    def names(self) -> Sequence[str]:
        """Its one name."""
        return (LOCAL,)

    def thresholds(self) -> dict[str, float]:
        """Its own: cross-fitted scores of all normal images set it when it was fitted."""
        return {LOCAL: _local_baseline(self.folder).settings.threshold}

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, BatchResult]], ImageInput]:
        """A function that computes maps and scores of a batch."""
        baseline = _local_baseline(self.folder)

        def inspect(batch: Tensor) -> dict[str, BatchResult]:
            scores, maps = baseline.inspect(batch)
            return {LOCAL: BatchResult(scores=scores, maps=maps)}

        settings = baseline.settings
        size_px = settings.statistics.features.image_size_px
        return inspect, ImageInput(size_px=size_px, bits=settings.bits)


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

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, BatchResult]], ImageInput]:
        """A function that computes all variants of a batch."""
        detector = _detector(self.models, self.category, self.version)
        return (
            lambda batch: witness_ablations.inspect(detector, self.variants, batch),
            _input_of(detector),
        )


def witness_method(models: str, category: str, version: str, data: str) -> WitnessMethod:
    """Fit the variants of a detector to its normal images below ``data``.

    Raises ValueError if a held-out image is missing.
    """
    detector = _detector(models, category, version)
    settings = detector.settings
    seed = recorded_options(settings.found.options, category).seed
    normal = normal_images(data, settings, seed=seed)
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
    inspect, form = method.loaded()
    found = [inspect(batch) for batch in _batches(uris, form)]
    results = []
    for name in method.names:
        scores = np.array([score for each in found for score in each[name].scores])
        maps = [one for each in found for one in each[name].maps or ()]
        results.append((scores, np.stack(maps) if keep_maps and maps else None))
    return results[0] if len(results) == 1 else tuple(results)


def _batches(uris: Sequence[str], form: ImageInput) -> list[Tensor]:
    contents = (files.read_bytes(uri, max_bytes=decoding.MAX_BYTES) for uri in uris)
    pixels = [decoding.decode(each, size_px=form.size_px).pixels for each in contents]
    stacked = to_tensor(decoding.stack(pixels, bits=form.bits))
    return [to_images(chunk) for chunk in stacked.split(BATCH_SIZE)]


def decodings(
    method: AblatedMethod, uris: list[str]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The image, its direct and its restored decoding, for each URI; 8-bit RGB."""
    detector, found = method.detector(), []
    with torch.inference_mode():
        for batch in _batches(uris, _input_of(detector)):
            codes = detector.vqvae.encode(batch.to(detector.device))
            pictures = (
                (batch * 255).round().byte().movedim(1, -1).numpy(),
                detector.pictures(codes),
                detector.pictures(detector.resample(codes).codes),
            )
            found += list(zip(*pictures, strict=True))
    return found
