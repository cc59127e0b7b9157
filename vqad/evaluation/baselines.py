"""What the paper is compared with: the convolutional autoencoders AE-L2 and AE-SSIM.

Bergmann et al. 2019 (the paper's [9]) squeeze a picture through a hundred numbers and take what
comes out wrong for the defect. Both networks are theirs (their table 1); one is fitted by squared
error, the other by structural similarity in windows of 11 pixels, and each is judged by what it
was fitted by. Images, augmentation, batches, steps and learning rate are those of the detector's
VQ-VAE, held-out images, filter, score and threshold the detector's own, so that only the method
differs. Two things differ from the source: textures are seen whole, as the detector sees them,
and not in patches, and the map is filtered.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from vqad.array_types import AnomalyMap, Images
from vqad.detection import anomaly_map, calibrate, score
from vqad.detection.settings import Settings
from vqad.detection.weights import (
    DetectorError,
    load_weights,
    read_json,
    record_of,
    to_json,
    weights_of,
)
from vqad.evaluation.autoencoder import Autoencoder, AutoencoderConfig, similarity
from vqad.storage import files, uris
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

FORMAT_VERSION = 1


def loss_of(loss: Loss, images: Images, decoded: Images) -> Tensor:
    """What an autoencoder is fitted by."""
    if loss == "AE-SSIM":
        return 1 - similarity(images, decoded).mean()
    return F.mse_loss(decoded.float(), images)


def maps_of(loss: Loss, images: Images, decoded: Images) -> list[AnomalyMap]:
    """Anomaly maps in grey levels: what the fit was by, at each pixel, filtered.

    AE-L2: the distance of eq. 6, of input and output. AE-SSIM: 1 - similarity, mean over RGB, of
    which 1 counts as 255 grey levels.
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
    """The budget of the detector's own reconstruction, which has no warm-up to do here."""
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
    """Fit to decoded pixels (num, size, size, 3); a record an interval. Raises DivergenceError."""
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
    """What decides a baseline's verdicts, and how it came about."""

    category: str
    loss: Loss
    network: AutoencoderConfig
    threshold: float  # grey levels
    minimum_area_px: int
    found: dict[str, Any]


class Baseline:
    """A fitted autoencoder with its threshold."""

    def __init__(self, network: Autoencoder, settings: BaselineSettings) -> None:
        self.network = network.eval()
        self.settings = settings
        network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def anomaly_maps(self, images: Images) -> list[AnomalyMap]:
        """Anomaly maps of images (batch, 3, size, size), in grey levels, in float32 throughout."""
        images = images.contiguous(memory_format=torch.channels_last)
        return maps_of(self.settings.loss, images, self.network(images))

    def scores(self, maps: list[AnomalyMap]) -> list[float]:
        """Scores of its maps, by the detector's rule."""
        area_px = self.settings.minimum_area_px
        return [score.score(each, minimum_area_px=area_px) for each in maps]

    def save(self, folder: str) -> None:
        """Save as ``folder/{baseline.json, network.safetensors}``; the JSON last."""
        weights = weights_of(self.network)
        files.write_bytes(uris.join(folder, "network.safetensors"), weights)
        record = {
            "format_version": FORMAT_VERSION,
            "settings": asdict(self.settings),
            "files": {"network.safetensors": record_of(weights)},
        }
        files.write_bytes(uris.join(folder, "baseline.json"), to_json(record))

    @classmethod
    def load(cls, folder: str) -> "Baseline":
        """Load a saved one. Raises DetectorError."""
        uri = uris.join(folder, "baseline.json")
        record = read_json(uri)
        if record.get("format_version") != FORMAT_VERSION:
            raise DetectorError(f"{uri} has another format; delete {folder}, to fit it again")
        try:
            settings = TypeAdapter(BaselineSettings).validate_python(record.get("settings"))
        except ValidationError as error:
            raise DetectorError(f"{uri}: {error.errors()[0]['msg']}") from error
        network = Autoencoder(settings.network)
        listed = record.get("files")
        recorded = listed.get("network.safetensors") if isinstance(listed, dict) else None
        load_weights(network, uris.join(folder, "network.safetensors"), recorded)
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
    """Fit and calibrate on a detector's own images: records, and at the end the baseline.

    ``settings`` are those of the detector that it is to be compared with.
    """
    start_s = time.perf_counter()
    asked = recorded_options(settings.found.options, settings.category)
    torch.manual_seed(asked.seed)
    config = AutoencoderConfig(image_size_px=settings.vqvae.image_size_px, code_dim=code_dim)
    network = Autoencoder(config).to(pixels.device)
    fitting = Fitting.begin(network, options)
    records = fit_autoencoder(
        fitting,
        pixels,
        held_out,
        loss=loss,
        kind=settings.kind,
        options=options,
        seed=asked.seed,
    )
    for record in records:
        last = record
        yield record
    plain = BaselineSettings(
        category=settings.category,
        loss=loss,
        network=config,
        threshold=0.0,
        minimum_area_px=settings.minimum_area_px,
        found={},
    )
    maps = [
        m for _, images in batches(held_out) for m in Baseline(network, plain).anomaly_maps(images)
    ]
    scores = Baseline(network, plain).scores(maps)
    found = {
        "held_out_scores": scores,
        "held_out_loss": last.held_out,
        "fit": asdict(options),
        "seed": asked.seed,
        "seconds": round(time.perf_counter() - start_s, 1),
    }
    threshold = calibrate.threshold(scores, quantile=asked.threshold_quantile)
    yield Baseline(network, replace(plain, threshold=threshold, found=found))
