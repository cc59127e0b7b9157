"""AE-L2 and AE-SSIM: the source's network, similarity against a library's, fitted and stored."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from tests.model.test_vqvae import CONFIG
from tests.support.random_detectors import detector_of
from tests.training.test_networks import one_thread
from vqad.detection import score
from vqad.detection.fit_record import FitRecord
from vqad.detection.weights import DetectorError
from vqad.evaluation.autoencoder import Autoencoder, AutoencoderConfig, similarity
from vqad.evaluation.baselines import LOSSES, Baseline, Loss, baseline_of, budget, maps_of
from vqad.images.tensors import to_images, to_tensor
from vqad.synthetic import draw
from vqad.training.loop import FitOptions, Record
from vqad.training.presets import PRESETS

__all__ = ["one_thread"]  # a fixture, and used by every test here too

RNG = np.random.default_rng(0)
PIXELS = to_tensor(np.stack([draw("washer", size_px=32, rng=RNG) for _ in range(16)]))
BUDGET = FitOptions(num_steps=30, batch_size=8, learning_rate=2e-3, interval_steps=10)


def noisy(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 40, 32, generator=generator)
    images[:, :, :20] *= 0.1  # little contrast, where the constants matter
    return images


def test_similarity_is_the_library_s() -> None:
    one, other = noisy(0), (noisy(0) + 0.2 * noisy(1)).clamp(0, 1)
    found = similarity(one, other).numpy()
    for pictures in zip(one.numpy(), other.numpy(), found, strict=True):
        a, b, ours = (each.transpose(1, 2, 0).astype(np.float64) for each in pictures)
        _, expected = structural_similarity(
            a, b, win_size=11, data_range=1, channel_axis=2, full=True, use_sample_covariance=False
        )
        # The library reflects the border about the edge of a pixel, not about its middle.
        inner = slice(5, -5), slice(5, -5)
        assert ours[inner] == pytest.approx(expected[inner], abs=2e-4)


def test_similarity_is_one_of_a_picture_with_itself_and_less_of_any_other() -> None:
    images = noisy(2)
    assert similarity(images, images) == pytest.approx(torch.ones_like(images), abs=1e-5)
    assert similarity(images, noisy(3)).mean() < 0.5


def test_at_128_px_the_network_is_the_source_s() -> None:
    network = Autoencoder(AutoencoderConfig(image_size_px=128))
    layers = [each for each in network.layers if not isinstance(each, nn.LeakyReLU)]
    there = [each for each in layers if isinstance(each, nn.Conv2d)]
    found = [(each.out_channels, each.kernel_size[0], each.stride[0]) for each in there]
    assert found == [
        *((32, 4, 2), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2)),
        *((64, 3, 1), (32, 3, 1), (100, 8, 1)),
    ]
    back = [each for each in layers if isinstance(each, nn.ConvTranspose2d)]
    assert [(each.in_channels, each.kernel_size[0]) for each in back] == [
        (num, side) for num, side, _ in reversed(found)
    ]
    assert back[-1].out_channels == 3
    assert isinstance(network.layers[-1], nn.ConvTranspose2d)


@pytest.mark.parametrize("size_px", [32, 64, 128, 256])
def test_pictures_of_every_size_come_back_at_their_size_through_a_hundred_numbers(
    size_px: int,
) -> None:
    network = Autoencoder(AutoencoderConfig(image_size_px=size_px, width=4))
    images = torch.rand(2, 3, size_px, size_px)
    assert network(images).shape == images.shape
    squeezed = [each for each in network.layers if isinstance(each, nn.Conv2d)][-1]
    shapes = []
    squeezed.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    network(images)
    assert shapes == [(2, 100, 1, 1)]


@pytest.mark.parametrize("size_px", [0, 16, 100, 96])
def test_sizes_that_no_halvings_lead_to_are_refused(size_px: int) -> None:
    with pytest.raises(ValueError, match=f"for an autoencoder, got {size_px}"):
        AutoencoderConfig(image_size_px=size_px)


def test_the_budget_is_the_vqvae_s() -> None:
    for preset in PRESETS.values():
        ours, theirs = budget(preset), preset.fit_vqvae
        assert (ours.num_steps, ours.batch_size) == (theirs.num_steps, theirs.batch_size)
        assert ours.learning_rate == theirs.learning_rate


def fitted(loss: Loss, *, seed: int = 0) -> tuple[list[Record], Baseline]:
    vqvae = replace(CONFIG, image_size_px=32)
    found = FitRecord(options={"category": "washer", "kind": "rotatable_object", "seed": seed})
    settings = replace(detector_of().settings, vqvae=vqvae, found=found)
    *records, baseline = baseline_of(
        PIXELS[4:],
        PIXELS[:4],
        loss=loss,
        settings=settings,
        options=BUDGET,
        code_dim=16,
    )
    assert isinstance(baseline, Baseline)
    return records, baseline


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_fitted_and_its_threshold_is_the_largest_held_out_score(loss: Loss) -> None:
    records, baseline = fitted(loss)
    assert [record.step for record in records] == [10, 20, 30]
    assert records[-1].held_out < records[0].held_out
    assert {record.stage for record in records} == {loss}
    maps = baseline.anomaly_maps(to_images(PIXELS[:4]))
    scores = baseline.scores(maps)
    assert baseline.settings.threshold == pytest.approx(max(scores), rel=1e-3)
    assert scores == [
        score.score(each, minimum_area_px=baseline.settings.minimum_area_px) for each in maps
    ]


def test_the_same_seed_fits_the_same_network() -> None:
    one, same, other = (fitted("AE-L2", seed=seed)[1] for seed in (1, 1, 2))
    weights = [each.network.layers[0].weight for each in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_each_map_is_of_what_its_network_is_fitted_by() -> None:
    images = torch.full((1, 3, 32, 32), 0.5)
    decoded = images.clone()
    assert not maps_of("AE-L2", images, decoded)[0].any()
    assert maps_of("AE-SSIM", images, decoded)[0] == pytest.approx(np.zeros((32, 32)), abs=1e-2)
    brighter = images + 0.1
    # 0.1 in each of three channels, alike everywhere: no structure differs.
    assert maps_of("AE-L2", images, brighter)[0] == pytest.approx(25.5 * np.sqrt(3), rel=1e-3)
    assert maps_of("AE-SSIM", images, brighter)[0].max() < 255 * 0.05
    noise = (images + 0.1 * torch.randn(1, 3, 32, 32)).clamp(0, 1)
    assert maps_of("AE-SSIM", images, noise)[0].mean() > 255 * 0.5


def test_saved_and_loaded_it_gives_the_same_maps(tmp_path: Path) -> None:
    _, baseline = fitted("AE-SSIM")
    baseline.save(str(tmp_path / "one"))
    loaded = Baseline.load(str(tmp_path / "one"))
    assert loaded.settings == baseline.settings
    images = to_images(PIXELS[:3])
    assert np.array_equal(loaded.anomaly_maps(images), baseline.anomaly_maps(images))


def test_what_was_tampered_with_is_refused(tmp_path: Path) -> None:
    _, baseline = fitted("AE-L2")
    baseline.save(str(tmp_path))
    weights, record = tmp_path / "network.safetensors", tmp_path / "baseline.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DetectorError, match="does not match its recorded hash"):
        Baseline.load(str(tmp_path))
    weights.write_bytes(whole)
    written = json.loads(record.read_text())
    record.write_text(json.dumps({**written, "format_version": 99}))
    with pytest.raises(DetectorError, match="has another format"):
        Baseline.load(str(tmp_path))
    written["settings"]["loss"] = "AE-L7"
    record.write_text(json.dumps(written))
    with pytest.raises(DetectorError, match="Input should be 'AE-L2' or 'AE-SSIM'"):
        Baseline.load(str(tmp_path))
