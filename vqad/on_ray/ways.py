"""Ways of looking at images beside the detector's own, as Ray tasks over chunks of them.

A task gets the URIs of images and a way of looking, and gives scores and maps, of each name apart:
the driver takes the maps of one at a time. No label comes near.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import ray
import torch
from torch import Tensor

from vqad import ablations, archives, images
from vqad.ablations import Looked
from vqad.baselines import Baseline, Loss
from vqad.detector import Detector
from vqad.examples import good_images
from vqad.fit import to_images, to_tensor
from vqad.on_ray import session
from vqad.settings import Settings
from vqad.uris import encoded

_IMAGES_A_TASK = 32
BATCH_SIZE = 8


def split(data: str, settings: Settings) -> tuple[list[str], list[archives.Listed]]:
    """URIs of a detector's held-out images as they lie below ``data``, and all other good ones.

    The detector may have been fitted elsewhere: what counts is the path below the category.
    Raises ValueError where a held-out image is not there.
    """
    marker = f"/{encoded(settings.category)}/"
    listed = good_images(data, settings.category)
    by_path = {each.image.rpartition(marker)[2]: each for each in listed}
    wanted = [image.rpartition(marker)[2] for image in settings.found.get("held_out", [])]
    missing = [path for path in wanted if path not in by_path]
    if missing or not wanted:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} held-out images of the {settings.category} detector "
            f"are not in {data}{f', the first: {missing[0]}' if missing else ''}; give as --data "
            "what it was trained on"
        )
    held_out = [by_path[path].image for path in wanted]
    return held_out, [each for each in listed if each.image not in set(held_out)]


@runtime_checkable
class Way(Protocol):
    """A way of looking at images, as it travels to the workers."""

    @property
    def names(self) -> Sequence[str]:
        """Of the methods that it gives results of."""

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        """What looks at a batch, and the size of its images in px."""


@dataclass(frozen=True)
class Ablated:
    """A detector and its ablations."""

    models: str
    category: str
    version: str

    @property
    def names(self) -> Sequence[str]:
        """All ablations."""
        return ablations.ABLATIONS

    def detector(self) -> Detector:
        """The detector, as this worker keeps it."""
        return _detector(self.models, self.category, self.version)

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        """All ablations at once."""
        detector = self.detector()
        size_px = detector.settings.vqvae.image_size_px
        return lambda batch: ablations.ablated(detector, batch), size_px


@dataclass(frozen=True)
class Baselined:
    """A fitted baseline."""

    folder: str
    loss: Loss

    @property
    def names(self) -> Sequence[str]:
        """The one."""
        return (self.loss,)

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        """Its map and score."""
        baseline = _baseline(self.folder)

        def look(batch: Tensor) -> dict[str, Looked]:
            maps = baseline.anomaly_maps(batch.to(device()))
            return {baseline.settings.loss: Looked(scores=baseline.scores(maps), maps=maps)}

        return look, baseline.settings.network.image_size_px


# A worker keeps what it looked with last: its next task is likely to want it again.
@lru_cache(maxsize=1)
def _detector(models: str, category: str, version: str) -> Detector:
    return Detector.load(models, category, version=version).to(device())


@lru_cache(maxsize=1)
def _baseline(folder: str) -> Baseline:
    baseline = Baseline.load(folder)
    baseline.network.to(device())
    return baseline


def device() -> str:
    """Where a task's networks go."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def num_gpus() -> float:
    """What a task asks for: a GPU where there are any."""
    return 1.0 if session.num_gpus() >= 1 else 0.0


def looked(way: Way, uris: Sequence[str], *, keep_maps: bool) -> dict[str, list[Any]]:
    """References to (scores, maps) by name, a list over chunks of the images."""
    num = len(way.names)
    task: Any = ray.remote(num_cpus=1, num_gpus=num_gpus(), num_returns=num)(_look_at)
    found: dict[str, list[Any]] = {name: [] for name in way.names}
    for at in range(0, len(uris), _IMAGES_A_TASK):
        refs = task.remote(way, list(uris[at : at + _IMAGES_A_TASK]), keep_maps)
        for name, ref in zip(way.names, [refs] if num == 1 else refs, strict=True):
            found[name].append(ref)
    return found


def _look_at(way: Way, uris: list[str], keep_maps: bool) -> Any:
    look, size_px = way.loaded()
    found = [look(batch) for batch in _batches(uris, size_px)]
    results = []
    for name in way.names:
        scores = np.array([score for each in found for score in each[name].scores])
        maps = [one for each in found for one in each[name].maps or ()]
        results.append((scores, np.stack(maps) if keep_maps and maps else None))
    return results[0] if len(results) == 1 else tuple(results)


def _batches(uris: Sequence[str], size_px: int) -> list[Tensor]:
    pixels = [
        images.decode(archives.read_bytes(uri, max_bytes=images.MAX_BYTES), size_px=size_px).pixels
        for uri in uris
    ]
    stacked = to_tensor(images.stack(pixels))
    return [to_images(chunk) for chunk in stacked.split(BATCH_SIZE)]


def scores_of(refs: list[Any]) -> list[float]:
    """Scores of all chunks of one name."""
    return [score for scores, _ in ray.get(refs) for score in scores.tolist()]


def decodings(way: Ablated, uris: list[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, direct and restored picture of each, 8-bit RGB."""
    detector, found = way.detector(), []
    with torch.inference_mode():
        for batch in _batches(uris, detector.settings.vqvae.image_size_px):
            codes = detector.vqvae.encode(batch.to(detector.device))
            pictures = (
                (batch * 255).round().byte().movedim(1, -1).numpy(),
                detector.pictures(codes),
                detector.pictures(detector.resample(codes).codes),
            )
            found += list(zip(*pictures, strict=True))
    return found
