"""The method with one thing taken away (4.5, figure 8): what each part of it is good for.

| name | the difference |
|---|---|
| plain form | the paper's map, without the surprisal of the codes; the others start from it |
| input-output residuals | the map is of the input and the restored picture, not of two decodings |
| no local constraint | an improbable code gives way whatever its neighbours are |
| no bilateral filter | the map is the difference as it is |
| likelihood of the codes | no resampling: the score is the mean -log likelihood, nats a code |

Each gets a threshold of its own from the same held-out images by the same rule. The paper does not
say which output it means by "input and output": here it is what the method puts out in the end,
the restored picture, for a VQ-VAE decodes defects as well as anything, and against its direct
decoding nothing would be left to see.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vqad.array_types import AnomalyMap, Images
from vqad.detection import anomaly_map, calibrate, score
from vqad.detector import Detector

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
class Looked:
    """What one way of looking at a batch gives; one entry an image."""

    scores: list[float]  # grey levels, or nats for the likelihood
    maps: list[AnomalyMap] | None  # grey levels; None where the way has no map


def smallest_threshold(name: str) -> float:
    """Least threshold of a way of looking: one grey level where it is one of grey levels."""
    return 0.0 if name == LIKELIHOOD else calibrate.SMALLEST_THRESHOLD


@torch.inference_mode()
def ablated(detector: Detector, images: Images) -> dict[str, Looked]:
    """All ablations on a batch (batch, 3, size, size), by name."""
    detector = detector.with_settings(form="plain")
    images = images.to(detector.device).contiguous(memory_format=torch.channels_last)
    codes = detector.vqvae.encode(images)
    resampled = detector.resample(codes)
    restored = detector.vqvae.decode(resampled.codes).movedim(1, -1).cpu().numpy()
    free = _unconstrained(detector)
    maps = {
        PLAIN: detector.anomaly_maps(codes, resampled.codes),
        "input-output residuals": _residuals(detector, images, restored),
        "no local constraint": free.anomaly_maps(codes, free.resample(codes).codes),
        "no bilateral filter": detector.anomaly_maps(codes, resampled.codes, filtered=False),
    }
    area_px = detector.settings.minimum_area_px
    looked = {
        name: Looked(
            scores=[score.score(each, minimum_area_px=area_px) for each in found], maps=found
        )
        for name, found in maps.items()
    }
    # A likelihood that float32 rounds to 0 counts as the smallest one above it, 87 nats.
    smallest = torch.finfo(torch.float32).tiny
    nats = -resampled.likelihood.clamp(min=smallest).log().flatten(1).mean(1)
    return looked | {LIKELIHOOD: Looked(scores=nats.tolist(), maps=None)}


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
