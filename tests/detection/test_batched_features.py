"""Features as tensor operations, against those by OpenCV."""

import numpy as np
import pytest
import torch

from vqad.detection import batched_features, local_features
from vqad.detection.local_features import FeatureOptions

# Deviations of a feature. OpenCV rounds the Lab colours of a pixel in 16,384 steps, and here and
# there the other way: that moves a few places by more than the rest.
LARGEST, USUAL = 0.02, 1e-4


def pictures(size_px: int) -> np.ndarray:
    """Smooth colours, sharp edges, lines, and grain; RGB in [0, 1], of 8 bits."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size_px, :size_px] / size_px
    waves = [np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 2), (3, 1), (2, 5))]
    found = np.stack([0.5 + 0.3 * np.stack(waves, -1)] * 3)
    found[1, size_px // 3 :, size_px // 2 :] *= 0.4
    found[2, ::9] = [0.9, 0.1, 0.2]
    found += rng.normal(0, 0.03, found.shape)
    return (found.clip(0, 1) * 255).round().astype(np.float32) / 255


@pytest.mark.parametrize("size_px", [64, 256])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("exposure", [False, True])
def test_features_agree_with_opencv(size_px: int, grey: bool, exposure: bool) -> None:
    options = FeatureOptions(image_size_px=size_px, grey=grey, exposure=exposure)
    shown = pictures(size_px)
    expected = np.stack([local_features.features(each, options) for each in shown])
    images = torch.from_numpy(shown).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    found = batched_features.features(images, options).numpy()
    away = np.abs(found - expected) / expected.std((0, 1, 2))
    assert found.shape == expected.shape
    assert away.max() < LARGEST
    assert away.mean((0, 1, 2)).max() < USUAL
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("grey", [False, True])
def test_an_image_does_not_depend_on_its_batch_and_stays_as_it_is(grey: bool) -> None:
    options = FeatureOptions(image_size_px=64, grey=grey, exposure=True)
    images = torch.from_numpy(pictures(64)).movedim(-1, 1).contiguous()
    before = images.clone()
    together = batched_features.features(images, options)
    for at in range(len(images)):
        alone = batched_features.features(images[at : at + 1], options)
        torch.testing.assert_close(alone[0], together[at], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
