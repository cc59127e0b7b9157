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
from torch import Tensor, nn

from vqad import archives, calibrate, score
from vqad.fit import batches, draw_images
from vqad.fitting import (
    FitOptions,
    Fitting,
    Interval,
    Record,
    autocast,
    descend,
    generator_of,
    is_interval,
)
from vqad.presets import Preset
from vqad.settings import Settings
from vqad.shapes import AnomalyMap, Images
from vqad.stored import DetectorError, load_weights, read_json, record_of, to_json, weights_of

Loss = Literal["AE-L2", "AE-SSIM"]
LOSSES: tuple[Loss, ...] = get_args(Loss)

FORMAT_VERSION = 1
WINDOW_PX = 11  # side of the window of structural similarity
_SMALLEST_PX = 8  # side of the map that the last convolution turns into numbers


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the network; Bergmann et al. 2019, table 1, is for 128 px."""

    image_size_px: int = 256
    code_dim: int = 100  # numbers that a picture is squeezed through
    width: int = 32  # channels of the first convolutions; the widest has four times as many

    def __post_init__(self) -> None:
        """Refuse sizes that no row of halvings leads from."""
        ratio = self.image_size_px / _SMALLEST_PX
        if ratio < 4 or ratio != 2 ** round(np.log2(ratio)):
            raise ValueError(
                f"image_size_px must be 32, 64, 128, ... for an autoencoder, "
                f"got {self.image_size_px}"
            )
        for name in ("code_dim", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def channels(self) -> list[tuple[int, int]]:
        """Output channels and stride of each 4x4 (stride 2) and 3x3 (stride 1) convolution.

        At 128 px exactly the source's; larger and smaller pictures have a halving more or less at
        the front.
        """
        num_halvings = round(np.log2(self.image_size_px / _SMALLEST_PX))
        w = self.width
        front = [(w, 2)] * (num_halvings - 2)
        return [*front, (w, 1), (2 * w, 2), (2 * w, 1), (4 * w, 2), (2 * w, 1), (w, 1)]


class Autoencoder(nn.Module):
    """Images to a hundred numbers and back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        there: list[nn.Module] = []
        back: list[nn.Module] = []
        before = 3
        for num, stride in config.channels:
            side = 4 if stride == 2 else 3
            there += [nn.Conv2d(before, num, side, stride, 1), nn.LeakyReLU(0.2)]
            back[:0] = [nn.ConvTranspose2d(num, before, side, stride, 1), nn.LeakyReLU(0.2)]
            before = num
        there.append(nn.Conv2d(before, config.code_dim, _SMALLEST_PX))
        squeezed = nn.ConvTranspose2d(config.code_dim, before, _SMALLEST_PX)
        # The last layer gives the picture as it is, without an activation.
        self.layers = nn.Sequential(*there, squeezed, nn.LeakyReLU(0.2), *back[:-1])

    def forward(self, images: Images) -> Images:
        """Images of [0, 1] as the network has them; may leave that range a little."""
        return (self.layers(images * 2 - 1) + 1) / 2


def similarity(one: Images, other: Images) -> Images:
    """Structural similarity at each pixel and channel, in [-1, 1] (Wang et al. 2004).

    Over square windows of 11 pixels with equal weights, the border reflected.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = one.float().contiguous(), other.float().contiguous()
        means = [_windows(each) for each in (one, other, one * one, other * other, one * other)]
        mean_one, mean_other, squares_one, squares_other, products = means
        covariance = products - mean_one * mean_other
        variances = squares_one - mean_one.square() + squares_other - mean_other.square()
        # The constants of the source, for values of [0, 1].
        c1, c2 = 0.01**2, 0.03**2
        level = (2 * mean_one * mean_other + c1) / (mean_one.square() + mean_other.square() + c1)
        return level * (2 * covariance + c2) / (variances + c2)


def _windows(pictures: Images) -> Images:
    # Rows, then columns, as sums of shifted pictures: on a CPU a third of a pooling layer's time.
    half, (height, width) = WINDOW_PX // 2, pictures.shape[-2:]
    padded = F.pad(pictures, (half, half, half, half), mode="reflect")
    rows: Tensor = sum(padded[..., at : at + height, :] for at in range(WINDOW_PX))  # type: ignore[assignment]
    square: Tensor = sum(rows[..., at : at + width] for at in range(WINDOW_PX))  # type: ignore[assignment]
    return square / WINDOW_PX**2


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
        residuals = [score.difference(one, other) for one, other in pairs]
    size_px = images.shape[-1]
    return [score.smooth(residual, input_size_px=size_px) for residual in residuals]


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
        archives.write_bytes(archives.join(folder, "network.safetensors"), weights)
        record = {
            "format_version": FORMAT_VERSION,
            "settings": asdict(self.settings),
            "files": {"network.safetensors": record_of(weights)},
        }
        archives.write_bytes(archives.join(folder, "baseline.json"), to_json(record))

    @classmethod
    def load(cls, folder: str) -> "Baseline":
        """Load a saved one. Raises DetectorError."""
        uri = archives.join(folder, "baseline.json")
        record = read_json(uri)
        if record.get("format_version") != FORMAT_VERSION:
            raise DetectorError(f"{uri} has another format; delete {folder}, to fit it again")
        try:
            settings = TypeAdapter(BaselineSettings).validate_python(record.get("settings"))
        except ValidationError as error:
            raise DetectorError(f"{uri}: {error.errors()[0]['msg']}") from error
        network = Autoencoder(settings.network)
        files = record.get("files")
        recorded = files.get("network.safetensors") if isinstance(files, dict) else None
        load_weights(network, archives.join(folder, "network.safetensors"), recorded)
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
    asked = settings.found["options"]
    torch.manual_seed(asked["seed"])
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
        seed=asked["seed"],
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
        "seed": asked["seed"],
        "seconds": round(time.perf_counter() - start_s, 1),
    }
    threshold = calibrate.threshold(scores, quantile=asked["threshold_quantile"])
    yield Baseline(network, replace(plain, threshold=threshold, found=found))
