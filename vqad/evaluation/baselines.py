"""The baselines of the paper: the convolutional autoencoders AE-L2 and AE-SSIM.

Bergmann et al. 2019 (the paper's [9]) encode an image to a hundred numbers, decode them, and take
the error of the decoding for the defect. Both networks are theirs (their table 1). AE-L2 is fitted
by squared error, AE-SSIM by structural similarity in windows of 11 pixels, and the anomaly map of
each is the error that it was fitted by. Images, augmentation, batches, steps and learning rate are
those of the detector's VQ-VAE; held-out images, filter, score and threshold rule are those of the
detector. So only the method differs. There are two differences from the source: textures are seen
whole, as the detector sees them, and not in patches, and the map is filtered.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqad.array_types import AnomalyMap, Images, OwnMap
from vqad.detection import anomaly_map, calibrate, score
from vqad.detection.settings import Settings
from vqad.evaluation import saved_baseline
from vqad.evaluation.autoencoder import Autoencoder, AutoencoderConfig, similarity
from vqad.training.loop import (
    FitOptions,
    Fitting,
    Interval,
    Record,
    autocast,
    descend,
    generator_of,
    is_interval,
)
from vqad.training.networks import batches, draw_images
from vqad.training.options import recorded_options
from vqad.training.presets import Preset

Loss = Literal["AE-L2", "AE-SSIM"]
LOSSES: tuple[Loss, ...] = get_args(Loss)

WEIGHTS: Final = "network.safetensors"


def loss_of(loss: Loss, images: Images, decoded: Images) -> Tensor:
    """The loss that an autoencoder is fitted by."""
    if loss == "AE-SSIM":
        return 1 - similarity(images, decoded).mean()
    return F.mse_loss(decoded.float(), images)


def maps_of(loss: Loss, images: Images, decoded: Images) -> list[AnomalyMap]:
    """Anomaly maps in grey levels: the loss at each pixel, filtered.

    For AE-L2 it is the distance of eq. 6 between input and output. For AE-SSIM it is the mean of
    1 - similarity over RGB, times 255 grey levels.
    """
    decoded = decoded.float().clamp(0, 1)
    if loss == "AE-SSIM":
        residuals = list((255 * (1 - similarity(images, decoded).mean(1))).cpu().numpy())
    else:
        pairs = zip(_pictures(images), _pictures(decoded), strict=True)
        residuals = [anomaly_map.difference(one, other) for one, other in pairs]
    size_px = images.shape[-1]
    return [anomaly_map.smooth(residual, input_size_px=size_px) for residual in residuals]


def _pictures(images: Images) -> np.ndarray:
    return images.movedim(1, -1).cpu().numpy()


def budget(preset: Preset) -> FitOptions:
    """The steps and batches of the detector's VQ-VAE, without the warm-up of its codebook."""
    return replace(preset.fit_vqvae, num_warmup_steps=0)


def fit_autoencoder(
    fitting: Fitting,
    pixels: Tensor,
    held_out: Tensor,
    *,
    loss: Loss,
    kind: Any,
    options: FitOptions,
    seed: int,
) -> Iterator[Record]:
    """Fit to decoded pixels (num, size, size, 3); yields a record per interval.

    Raises DivergenceError.
    """
    clock = Interval(1)
    while fitting.step < options.num_steps:
        generator = generator_of(seed, fitting.step)
        images = draw_images(pixels, kind, options.batch_size, generator)
        fitting.network.train()
        with autocast(images.device):
            value = loss_of(loss, images, fitting.network(images))
        descend(fitting, value, options)
        clock.add(value.detach(), None, len(images))
        fitting.step += 1
        if is_interval(fitting.step, options):
            yield clock.record(loss, fitting.step, options, _held_out(fitting, held_out, loss))
            clock = Interval(1)


@torch.no_grad()
def _held_out(fitting: Fitting, pixels: Tensor, loss: Loss) -> float:
    fitting.network.eval()
    total = 0.0
    for _, images in batches(pixels):
        with autocast(images.device):
            decoded = fitting.network(images)
        total += loss_of(loss, images, decoded).item() * len(images)
    return total / len(pixels)


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """The settings that decide a baseline's verdicts, and the record of its fit."""

    category: str
    loss: Loss
    network: AutoencoderConfig
    threshold: float  # grey levels
    minimum_area_px: int
    found: dict[str, Any]
    bits: int = 16  # significant bits of values in 16-bit files


class Baseline:
    """A fitted autoencoder with its threshold."""

    def __init__(self, network: Autoencoder, settings: BaselineSettings) -> None:
        self.network = network.eval()
        self.settings = settings
        network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def anomaly_maps(self, images: Images) -> list[AnomalyMap]:
        """Anomaly maps of images (batch, 3, size, size), in grey levels; computed in float32."""
        images = images.contiguous(memory_format=torch.channels_last)
        return maps_of(self.settings.loss, images, self.network(images))

    def scores(self, maps: list[OwnMap]) -> list[float]:
        """Scores of anomaly maps, by the detector's rule."""
        area_px = self.settings.minimum_area_px
        return [score.score(each, minimum_area_px=area_px) for each in maps]

    def save(self, folder: str) -> None:
        """Write ``folder/{network.safetensors, baseline.json}``, the JSON last."""
        saved_baseline.save(folder, self.settings, self.network, weights_name=WEIGHTS)

    @classmethod
    def load(cls, folder: str) -> "Baseline":
        """Load a saved baseline. Raises DetectorError."""
        settings, network = saved_baseline.load(
            folder, BaselineSettings, lambda each: Autoencoder(each.network), weights_name=WEIGHTS
        )
        return cls(network, settings)


def baseline_of(
    pixels: Tensor,
    held_out: Tensor,
    *,
    loss: Loss,
    settings: Settings,
    options: FitOptions,
    code_dim: int = 100,
) -> Iterator[Record | Baseline]:
    """Fit and calibrate on a detector's own images; yields records, and the baseline at the end.

    ``settings`` are those of the detector that the baseline is compared with.
    """
    start_s = time.perf_counter()
    recorded = recorded_options(settings.found.options, settings.category)
    torch.manual_seed(recorded.seed)
    config = AutoencoderConfig(image_size_px=settings.vqvae.image_size_px, code_dim=code_dim)
    network = Autoencoder(config).to(pixels.device)
    held_out_loss = math.nan
    for record in fit_autoencoder(
        Fitting.begin(network, options),
        pixels,
        held_out,
        loss=loss,
        kind=settings.kind,
        options=options,
        seed=recorded.seed,
    ):
        held_out_loss = record.held_out
        yield record
    found = {
        "held_out_loss": held_out_loss,
        "fit": asdict(options),
        "seed": recorded.seed,
        "seconds": round(time.perf_counter() - start_s, 1),
    }
    yield _calibrated(
        network, loss, settings, held_out, quantile=recorded.threshold_quantile, found=found
    )


def _calibrated(
    network: Autoencoder,
    loss: Loss,
    settings: Settings,
    held_out: Tensor,
    *,
    quantile: float | None,
    found: dict[str, Any],
) -> Baseline:
    """The fitted network with its threshold from the held-out images, as for a detector."""
    blank = BaselineSettings(
        category=settings.category,
        loss=loss,
        network=network.config,
        threshold=0.0,
        minimum_area_px=settings.minimum_area_px,
        found={},
        bits=settings.bits,
    )
    baseline = Baseline(network, blank)
    maps = [each for _, images in batches(held_out) for each in baseline.anomaly_maps(images)]
    scores = baseline.scores(maps)
    threshold = calibrate.threshold(scores, quantile=quantile)
    record = {"held_out_scores": scores, **found}
    return Baseline(network, replace(blank, threshold=threshold, found=record))
