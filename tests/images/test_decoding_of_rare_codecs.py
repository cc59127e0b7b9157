"""Images that imagecodecs and tifffile write are decoded as Pillow does, or named unsupported."""

import io
from collections.abc import Callable

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.images.test_decoding_against_pillow import by_pillow
from vqad.images.decoding import decode
from vqad.images.headers import ImageError

SIZE_PX = 24
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
COLOURS = np.ascontiguousarray(cv2.GaussianBlur(NOISE, (0, 0), 2))
GREY = np.ascontiguousarray(COLOURS[..., 0])
PLANES = np.ascontiguousarray(np.moveaxis(COLOURS, 2, 0))


def tiff(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


LAYOUTS: dict[str, tuple[np.ndarray, dict]] = {
    "grey": (GREY, {"photometric": "minisblack"}),
    "RGB": (COLOURS, {"photometric": "rgb"}),
    "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}),
}
READ: dict[str, Callable[[], bytes]] = {
    "WebP, lossless": lambda: imagecodecs.webp_encode(COLOURS, lossless=True),
    "WebP, lossless at level 0": lambda: imagecodecs.webp_encode(COLOURS, level=0, lossless=True),
    "WebP, lossless with alpha": lambda: imagecodecs.webp_encode(
        np.dstack([COLOURS, GREY]), lossless=True
    ),
    "PNG": lambda: imagecodecs.png_encode(COLOURS),
    "BMP": lambda: imagecodecs.bmp_encode(COLOURS),
    "BMP, grey": lambda: imagecodecs.bmp_encode(GREY),
    **{
        f"TIFF, {layout} by {codec}": lambda layout=layout, codec=codec: tiff(
            LAYOUTS[layout][0], compression=codec, **LAYOUTS[layout][1]
        )
        for layout in LAYOUTS
        for codec in ("zlib", "lzw", "packbits", "zstd", "lzma")
    },
}
READ_NEARLY: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: imagecodecs.jpeg_encode(COLOURS, level=95),
    "WebP": lambda: imagecodecs.webp_encode(COLOURS, level=95),
    "TIFF, YCbCr by JPEG": lambda: tiff(COLOURS, photometric="ycbcr", compression="jpeg"),
    **{
        f"TIFF, {layout} by JPEG": lambda layout=layout: tiff(
            LAYOUTS[layout][0], compression="jpeg", **LAYOUTS[layout][1]
        )
        for layout in LAYOUTS
    },
}
LOSSLESS_JPEG = "lossless or hierarchical JPEG is not supported"
UNSUPPORTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG, lossless": (lambda: imagecodecs.ljpeg_encode(GREY), LOSSLESS_JPEG),
    "JPEG, lossless RGB": (lambda: imagecodecs.jpeg_encode(COLOURS, lossless=True), LOSSLESS_JPEG),
    "JPEG-LS": (lambda: imagecodecs.jpegls_encode(COLOURS), LOSSLESS_JPEG),
    "JPEG, 12 bits": (
        lambda: imagecodecs.jpeg_encode(GREY.astype(np.uint16) * 16, bitspersample=12),
        "JPEG of 12 bits is not supported",
    ),
    "animated PNG": (
        lambda: imagecodecs.apng_encode(np.stack([COLOURS, COLOURS])),
        "animated PNG is not a supported format",
    ),
    **{
        f"TIFF by {codec}": (
            lambda codec=codec: tiff(COLOURS, photometric="rgb", compression=codec),
            f"8-bit TIFF of compression {number}",
        )
        for codec, number in (("webp", 50001), ("jpeg2000", 34712), ("png", 34933), ("lerc", 34887))
    },
}


@pytest.mark.parametrize("name", READ)
def test_what_keeps_every_value_gives_the_values_of_pillow(name: str) -> None:
    data = READ[name]()
    np.testing.assert_array_equal(decode(data, size_px=SIZE_PX).pixels, by_pillow(data))


@pytest.mark.parametrize("name", READ_NEARLY)
def test_what_loses_a_little_gives_nearly_the_values_of_pillow(name: str) -> None:
    data = READ_NEARLY[name]()
    found = decode(data, size_px=SIZE_PX).pixels.astype(int)
    np.testing.assert_allclose(found, by_pillow(data), atol=3)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_read_is_unsupported_and_not_called_broken(name: str) -> None:
    encode, reason = UNSUPPORTED[name]
    with pytest.raises(ImageError) as caught:
        decode(encode(), size_px=SIZE_PX)
    assert (caught.value.error, caught.value.detail) == ("unsupported", reason)
