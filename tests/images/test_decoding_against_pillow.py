"""Pictures of all modes and depths are decoded as Pillow decodes them, or are unsupported."""

import io
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from vqad.images.decoding import decode
from vqad.images.headers import ImageError

SIZE_PX = 20
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"]
MODES += ["LAB", "HSV", "I", "F", "I;16"]
TIFF_COMPRESSIONS = (
    *("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"),
    *("webp", "group3", "group4", "tiff_ccitt", "tiff_thunderscan"),
)
OPTIONS = {
    "PNG": [{}, {"bits": 2}],
    "BMP": [{}],
    "JPEG": [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}],
    "WEBP": [{}, {"lossless": True}, {"lossless": True, "exact": True}],
    "TIFF": [{"compression": each} for each in TIFF_COMPRESSIONS],
}
# Kinds of picture that have no place in RGB in [0, 1], or that are read wrongly if they are cut.
UNSUPPORTED = {("TIFF", mode) for mode in ("I", "F", "LAB", "YCbCr", "I;16")}


def picture(mode: str) -> Image.Image:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (SIZE_PX, SIZE_PX), np.uint16))
    noise = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(noise[..., 0]))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes | None:
    """A file, or None if Pillow can't write this mode in this way."""
    stream = io.BytesIO()
    try:
        image.save(stream, kind, **options)
    except (OSError, KeyError, ValueError, RuntimeError):
        return None
    return stream.getvalue()


def decoded(data: bytes, *, may_be_unsupported: bool) -> np.ndarray | None:
    """The pixels, or None for a file that is allowed to be unsupported and is."""
    try:
        return decode(data, size_px=SIZE_PX).pixels
    except ImageError as error:
        if error.error != "unsupported" or not may_be_unsupported:
            raise
        return None


def by_pillow(data: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("I;16", "I;16B", "I"):
        return np.stack([np.asarray(image).astype(np.uint16)] * 3, axis=2)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_pictures_are_decoded_as_by_pillow_or_unsupported(kind: str, mode: str) -> None:
    for options, orientation in product(OPTIONS[kind], (1, 6)):
        exif = Image.Exif()
        exif[274] = orientation
        data = encoded(picture(mode), kind, **options, **({} if kind == "BMP" else {"exif": exif}))
        if data is None:
            continue
        found = decoded(data, may_be_unsupported=(kind, mode) in UNSUPPORTED)
        if found is None:
            continue
        is_exact = kind in ("PNG", "BMP", "TIFF") or options.get("lossless")
        tolerance = 0 if is_exact and options.get("compression") not in ("jpeg", "webp") else 3
        np.testing.assert_allclose(found.astype(int), by_pillow(data), atol=tolerance)


SHAPES = {
    "grey": ((SIZE_PX, SIZE_PX), {"photometric": "minisblack"}),
    "inverted grey": ((SIZE_PX, SIZE_PX), {"photometric": "miniswhite"}),
    "RGB": ((SIZE_PX, SIZE_PX, 3), {"photometric": "rgb"}),
    "RGBA": ((SIZE_PX, SIZE_PX, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "planes": ((3, SIZE_PX, SIZE_PX), {"photometric": "rgb", "planarconfig": "separate"}),
}


DEEP = ("grey", "RGB", "RGBA")  # shapes that are read with 16 bits too


def upright_rgb(values: np.ndarray, name: str) -> np.ndarray:
    if name == "inverted grey":
        values = np.iinfo(values.dtype).max - values
    if values.ndim == 2:
        return np.stack([values] * 3, axis=2)
    return np.moveaxis(values, 0, 2) if name == "planes" else values[..., :3]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", SHAPES)
def test_tiff_gives_the_values_that_were_put_in_or_is_unsupported(name: str, dtype: type) -> None:
    shape, layout = SHAPES[name]
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    for tile, compression, predictor, order, big in product(
        (None, (16, 16)), (None, "zlib"), (False, True), "<>", (False, True)
    ):
        options = {"compression": compression, "predictor": bool(predictor and compression)}
        stream = io.BytesIO()
        tifffile.imwrite(
            stream,
            values,
            tile=tile,
            byteorder=order,
            bigtiff=big,
            metadata=None,
            **layout,
            **options,
        )
        is_rare = (big and order == ">") or (dtype == np.uint16 and name not in DEEP)
        found = decoded(stream.getvalue(), may_be_unsupported=is_rare)
        if found is None:
            continue
        np.testing.assert_array_equal(found, upright_rgb(values, name))
