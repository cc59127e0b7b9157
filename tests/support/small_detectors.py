"""Detectors of random networks, and archives for them: quick to make, and their codes change."""

from pathlib import Path

import cv2
import numpy as np
import torch

from tests.model.test_pixelsnail import prior_of
from vqad import synthetic
from vqad.detection.fit_record import FitRecord
from vqad.detection.settings import Settings
from vqad.detector import Detector
from vqad.images import decoding, listing
from vqad.images.tensors import to_images, to_tensor
from vqad.model.pixelsnail import PixelSNAILConfig
from vqad.model.resample import ResampleOptions
from vqad.model.vqvae import VQVAE, VQVAEConfig
from vqad.storage import files, uris

SIZE_PX = 32
_VQVAE = VQVAEConfig(
    image_size_px=SIZE_PX,
    latent_size=8,
    num_codes=16,
    code_dim=8,
    width=16,
    residual_width=8,
    num_residual_blocks=1,
)
_PRIOR = PixelSNAILConfig(num_codes=16, latent_size=8, width=16, num_stages=1, num_heads=2)


def save_detector(
    models: str,
    category: str,
    data: str,
    *,
    vqvae_config: VQVAEConfig = _VQVAE,
    prior_config: PixelSNAILConfig = _PRIOR,
) -> str:
    """Save one whose threshold lies amid the scores of some images; returns its version."""
    size_px = vqvae_config.image_size_px
    listed = listing.list_images(uris.join(data, category, "test"))
    pixels = [
        decoding.decode(
            files.read_bytes(each.image, max_bytes=decoding.MAX_BYTES), size_px=size_px
        ).pixels
        for each in listed
    ]
    batch = to_images(to_tensor(np.stack(pixels)))
    torch.manual_seed(1)
    vqvae = VQVAE(vqvae_config).eval()
    with torch.no_grad():
        latents = vqvae.encoder(batch * 2 - 1)
        vqvae.codebook.start(latents, torch.Generator().manual_seed(1))
    prior = prior_of(prior_config, seed=1).float()
    with torch.no_grad():
        prior.output[-1].weight.mul_(60)
        prior.embedding.weight.mul_(3)
    settings = Settings(
        category=category,
        kind="object",
        vqvae=vqvae_config,
        prior=prior_config,
        resample=ResampleOptions(eta=0.02),
        threshold=0.0,
        minimum_area_px=16,
    )
    detector = Detector(vqvae, prior, settings)
    scores = np.sort(detector.inspect(batch).scores)
    assert scores[-1] > scores[0], scores
    # Between two scores, so that no rounding can move an image across.
    gap = int(np.argmax(np.diff(scores)))
    threshold = float(np.float32((scores[gap] + scores[gap + 1]) / 2))
    found = FitRecord(held_out_scores=scores.tolist())
    return detector.with_settings(threshold=threshold, found=found).save(models)


def draw(folder: Path, categories: tuple[str, ...]) -> None:
    """An archive of four good and four defective test images a category, 48 px."""
    synthetic.draw_archive(
        folder, categories=categories, size_px=48, num_train=0, num_good=4, num_defect=4
    )


def odd_files(folder: Path) -> dict[str, str]:
    """Write files that an archive should not have, or seldom has; returns error words by name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 30), np.uint8)
    _, png = cv2.imencode(".png", grey)
    contents = {
        "empty.png": (b"", "empty"),
        "text.png": (b"this is no picture at all\n", "unreadable"),
        "cut.png": (png.tobytes()[:-40], "truncated"),
        "moving.gif": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "unsupported"),
        "grey.png": (png.tobytes(), ""),
        "deep.png": (_png(rng.integers(0, 65536, (25, 31, 3), np.uint16)), ""),
        "alpha.png": (_png(rng.integers(0, 256, (25, 31, 4), np.uint8)), ""),
        "name with # and %.png": (png.tobytes(), ""),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "link.png").symlink_to(folder / "gone")
    return {name: error for name, (_, error) in contents.items()} | {"link.png": "missing"}


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
