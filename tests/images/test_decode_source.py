"""Decoding in the image's own size, for people to look at."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from vqad.images.decoding import decode, decode_source
from vqad.images.headers import ImageError

RNG = np.random.default_rng(0)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("kind", [".png", ".webp", ".bmp", ".tiff"])
def test_all_pixels_are_kept_in_rgb(kind: str) -> None:
    rgb = RNG.integers(0, 256, (20, 31, 3), np.uint8)
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []
    data = cv2.imencode(kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    assert np.array_equal(decode_source(data), rgb)


def test_a_picture_of_the_models_size_is_the_same_in_both_ways() -> None:
    data = png(RNG.integers(0, 256, (24, 24, 3), np.uint8))
    assert np.array_equal(decode_source(data), decode(data, size_px=24).pixels)


def test_a_grey_picture_has_three_equal_channels() -> None:
    grey = RNG.integers(0, 256, (9, 14), np.uint8)
    assert np.array_equal(decode_source(png(grey)), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(("largest", "bits"), [(1023, 10), (4000, 12), (65535, 16)])
def test_deep_values_are_scaled_from_the_range_of_the_camera(largest: int, bits: int) -> None:
    pixels = np.linspace(0, largest, 60).astype(np.uint16).reshape(6, 10)
    found = decode_source(png(pixels))
    assert found.dtype == np.uint8
    assert np.abs(found[..., 0] - pixels / (2**bits - 1) * 255).max() <= 1


def test_a_turned_photograph_is_shown_upright() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((10, 30, 3), np.uint8)).save(buffer, "JPEG", exif=exif)
    assert decode_source(buffer.getvalue()).shape == (30, 10, 3)


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "empty"), (b"no picture", "unreadable"), (png(np.zeros((40, 40)))[:-30], "truncated")],
)
def test_what_cannot_be_decoded_is_named(data: bytes, error: str) -> None:
    with pytest.raises(ImageError) as raised:
        decode_source(data)
    assert raised.value.error == error
