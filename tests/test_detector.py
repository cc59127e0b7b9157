"""A detector judges an image alike alone and in a batch, and never judges broken numbers."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.random_detectors import (
    detector_of,
    pictures,
)
from vqad.images.tensors import to_images
from vqad.model.pixelsnail import PixelSNAILConfig


def test_the_detector_of_these_tests_does_find_something() -> None:
    found = detector_of().inspect(pictures())
    assert min(found.codes_changed) > 0
    assert min(found.scores) > 1
    assert len(set(found.scores)) == 8


def test_a_batch_of_eight_gives_what_eight_batches_of_one_give() -> None:
    washer, images = detector_of(), pictures()
    together = washer.inspect(images)
    alone = [washer.inspect(image[None]) for image in images]
    assert torch.equal(together.codes, torch.cat([each.codes for each in alone]))
    assert torch.equal(together.restored_codes, torch.cat([each.restored_codes for each in alone]))
    assert together.codes_changed == [each.codes_changed[0] for each in alone]
    maps = [each.anomaly_maps[0] for each in alone]
    # Before they are rounded the maps differ by less than 1e-3, and then by a step of the grid.
    np.testing.assert_allclose(together.anomaly_maps, maps, atol=1 / 32 + 1e-3, rtol=1 / 256)
    scores = [each.scores[0] for each in alone]
    np.testing.assert_allclose(together.scores, scores, atol=1e-3)


def test_nothing_unlikely_gives_maps_of_exactly_zero_and_decodes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    washer = detector_of(eta=0.0)

    def decode(codes: Tensor) -> Tensor:
        raise AssertionError(f"decoded {len(codes)} maps")

    monkeypatch.setattr(washer.vqvae, "decode", decode)
    found = washer.inspect(pictures())
    assert torch.equal(found.codes, found.restored_codes)
    assert found.codes_changed == [0] * 8
    assert not np.any(found.anomaly_maps)
    assert [each.dtype for each in found.anomaly_maps] == [np.float32] * 8
    assert (found.scores, found.verdicts) == ([0.0] * 8, ["normal"] * 8)


def test_only_images_of_which_a_code_changed_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    washer = detector_of()
    codes = washer.vqvae.encode(pictures())
    restored = codes.clone()
    restored[2, 1, 1] = (restored[2, 1, 1] + 1) % 16
    decoded: list[int] = []
    decode = washer.vqvae.decode

    def note(codes: Tensor) -> Tensor:
        decoded.append(len(codes))
        return decode(codes)

    monkeypatch.setattr(washer.vqvae, "decode", note)
    maps = washer.anomaly_maps(codes, restored)
    assert decoded == [2]
    assert [bool(each.any()) for each in maps] == [at == 2 for at in range(8)]


def test_the_threshold_decides_the_verdict_strictly() -> None:
    washer = detector_of()
    scores = washer.inspect(pictures()).scores
    at = washer.with_settings(threshold=scores[0])
    below = washer.with_settings(threshold=float(np.nextafter(scores[0], 0)))
    assert at.inspect(pictures()).verdicts[0] == "normal"
    assert below.inspect(pictures()).verdicts[0] == "defect"


def test_regions_are_given_in_pixels_of_the_source() -> None:
    anomaly_map = np.zeros((16, 16), np.float32)
    anomaly_map[4:8, 8:12] = 30
    region = detector_of().regions(anomaly_map, source_width_px=160, source_height_px=32)[0]
    assert (region.x_px, region.y_px, region.width_px, region.height_px) == (80, 8, 40, 8)


def test_pictures_are_8_bit_and_upright() -> None:
    washer = detector_of()
    codes = washer.vqvae.encode(pictures())
    found = washer.pictures(codes)
    assert (found.dtype, found.shape) == (np.uint8, (8, 16, 16, 3))
    images = to_images(torch.from_numpy(found))
    torch.testing.assert_close(images, washer.vqvae.decode(codes), atol=0.5 / 255 + 1e-6, rtol=0)


def test_images_of_another_size_are_refused_with_the_size_that_is_wanted() -> None:
    message = "images must be (batch, 3, 16, 16) for the washer detector, got (2, 3, 32, 16)"
    with pytest.raises(ValueError, match=re.escape(message)):
        detector_of().inspect(torch.zeros(2, 3, 32, 16))


def test_images_that_are_not_finite_are_refused() -> None:
    images = pictures()
    images[3, 0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match=r"images must be finite, RGB in \[0, 1\]"):
        detector_of().inspect(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"minimum_area_px": 0},
            "minimum_area_px must be in [1, 256], the pixels of the model's input, got 0",
        ),
        (
            {"threshold": -1.0},
            "threshold must be in [0, 441.7), the grey levels of a score, got -1.0",
        ),
        (
            {"threshold": np.inf},
            "threshold must be in [0, 441.7), the grey levels of a score, got inf",
        ),
        ({"category": ""}, "category must not be empty"),
        (
            {"prior": PixelSNAILConfig(num_codes=9, latent_size=4)},
            "prior and VQ-VAE must have the same num_codes, got 9 and 16",
        ),
        (
            {"prior": PixelSNAILConfig(num_codes=16, latent_size=8)},
            "prior and VQ-VAE must have the same latent_size, got 8 and 4",
        ),
    ],
)
def test_settings_that_no_verdict_can_be_made_with_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        detector_of(**change)
