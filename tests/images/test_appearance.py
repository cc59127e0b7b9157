"""Brightness, contrast and sharpness: each changes with what it is named after."""

import cv2
import numpy as np
import torch

from vqad import synthetic
from vqad.array_types import Images
from vqad.images.appearance import appearance
from vqad.images.measures import MEASURES


def pictures() -> Images:
    rng = np.random.default_rng(0)
    drawn = [synthetic.draw("washer", rng=rng, size_px=64) for _ in range(4)]
    return torch.from_numpy(np.stack(drawn)).movedim(-1, 1).float() / 255


def blurred(batch: Images, sigma_px: float) -> Images:
    rows = [cv2.GaussianBlur(each.movedim(0, -1).numpy(), (0, 0), sigma_px) for each in batch]
    return torch.from_numpy(np.stack(rows)).movedim(-1, 1)


def test_half_the_light_halves_brightness_and_contrast_and_leaves_sharpness() -> None:
    batch = pictures()
    full, half = appearance(batch), appearance(batch / 2)
    np.testing.assert_allclose(half.brightness, full.brightness / 2, rtol=1e-4)
    np.testing.assert_allclose(half.contrast, full.contrast / 2, rtol=1e-4)
    np.testing.assert_allclose(half.sharpness, full.sharpness, rtol=1e-3)


def test_a_blur_makes_images_less_sharp_and_hardly_changes_their_brightness() -> None:
    batch = pictures()
    sharp, soft = appearance(batch), appearance(blurred(batch, 1.5))
    assert (soft.sharpness < 0.7 * sharp.sharpness).all()
    np.testing.assert_allclose(soft.brightness, sharp.brightness, rtol=0.01)


def test_a_picture_of_one_colour_has_its_luma_and_no_contrast() -> None:
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    found = appearance(red)
    np.testing.assert_allclose(found.brightness, 0.299 * 255, rtol=1e-4)
    np.testing.assert_allclose(found.contrast, 0, atol=1e-3)
    assert np.isfinite(found.sharpness).all()


def test_an_image_has_the_same_numbers_in_any_batch() -> None:
    batch = pictures()
    alone = appearance(batch[2:3])
    for name in MEASURES:
        np.testing.assert_allclose(getattr(alone, name)[0], getattr(appearance(batch), name)[2])
