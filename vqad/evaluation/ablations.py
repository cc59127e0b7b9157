"""The method with one part left out at a time (4.5, figure 8), to measure what each part adds.

| name | the difference |
|---|---|
| plain form | the paper's map, without the surprisal of the codes; the others start from it |
| input-output residuals | the map compares the input, not its decoding, with the restored picture |
| no local constraint | an improbable code is replaced even if its neighbours are probable |
| no bilateral filter | the map is the difference, not smoothed |
| likelihood of the codes | no resampling: the score is the mean -log likelihood, in nats per code |

Each has its own threshold, set on the same held-out images by the same rule. The paper does not
say which output it means by "input and output". Here it is the restored picture: a VQ-VAE decodes
defects as well as anything else, so the direct decoding hardly differs from the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vqad.array_types import AnomalyMap, Images, OwnMap
from vqad.detection import anomaly_map, calibrate, score
from vqad.detector import Detector
from vqad.images.placement import Placement, Size, places_of
from vqad.images.tensors import filled

LIKELIHOOD = "likelihood of the codes"
PLAIN = "plain form"
ABLATIONS = (
    PLAIN,
    "input-output residuals",
    "no local constraint",
    "no bilateral filter",
    LIKELIHOOD,
)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The result of one method on a batch; one entry per image."""

    scores: list[float]  # in the method's unit: grey levels, nats of the likelihood, or deviations
    maps: list[OwnMap] | None  # in the same unit; None if the method has no map


def smallest_threshold(name: str) -> float:
    """Smallest threshold of a method: one grey level, or 0 if its scores are in nats."""
    return 0.0 if name == LIKELIHOOD else calibrate.SMALLEST_THRESHOLD


@torch.inference_mode()
def ablated(
    detector: Detector, images: Images, sources: Sequence[Size] | None = None
) -> dict[str, BatchResult]:
    """Apply all ablations to a batch (batch, 3, size, size); returns results by name."""
    detector = detector.with_settings(form="plain")
    placements = detector.placements(images, sources)
    images = (
        filled(images, placements).to(detector.device).contiguous(memory_format=torch.channels_last)
    )
    codes = detector.vqvae.encode(images)
    resampled = detector.resample(codes)
    restored = detector.vqvae.decode(resampled.codes).movedim(1, -1).cpu().numpy()
    free = _unconstrained(detector)
    found = {
        PLAIN: detector.anomaly_maps(codes, resampled.codes, placements=placements),
        "input-output residuals": _residuals(detector, images, restored),
        "no local constraint": free.anomaly_maps(
            codes, free.resample(codes).codes, placements=placements
        ),
        "no bilateral filter": detector.anomaly_maps(
            codes, resampled.codes, filtered=False, placements=placements
        ),
    }
    maps = {
        name: [its.map_of(each) for its, each in zip(placements, squares, strict=True)]
        for name, squares in found.items()
    }
    area_px = detector.settings.minimum_area_px
    results = {
        name: BatchResult(
            scores=[score.score(each, minimum_area_px=area_px) for each in some], maps=some
        )
        for name, some in maps.items()
    }
    # A likelihood that float32 rounds to 0 counts as the smallest one above it, 87 nats.
    smallest = torch.finfo(torch.float32).tiny
    nats = _means(-resampled.likelihood.clamp(min=smallest).log(), placements)
    return results | {LIKELIHOOD: BatchResult(scores=nats, maps=None)}


def _means(nats: Tensor, placements: Sequence[Placement]) -> list[float]:
    """The mean of each image over the cells that count."""
    counted = places_of(placements, nats.shape[-1])
    if counted is None:
        found: list[float] = nats.flatten(1).mean(1).tolist()
        return found
    some = torch.from_numpy(counted).to(nats.device)
    return [float(each[its].mean()) for each, its in zip(nats, some, strict=True)]


def _unconstrained(detector: Detector) -> Detector:
    resample = replace(detector.settings.resample, local_constraint=False)
    return detector.with_settings(resample=resample)


def _residuals(detector: Detector, images: Images, restored: np.ndarray) -> list[AnomalyMap]:
    size_px = detector.settings.vqvae.image_size_px
    pictures = images.movedim(1, -1).cpu().numpy()
    return [
        anomaly_map.smooth(anomaly_map.difference(one, other), input_size_px=size_px)
        for one, other in zip(pictures, restored, strict=True)
    ]
