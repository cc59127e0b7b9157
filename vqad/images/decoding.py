"""Bytes -> pixels -> values, and what to say when the bytes are no picture.

Decoding is part of the method: two programs that turn one file into different pixels give two
verdicts. So its rules are here once, and go into every detector as ``PREPROCESSING``. OpenCV
decodes the pixels, but Pillow those of TIFF files up to 8 bits a channel, of which OpenCV
multiplies colour by alpha; both only what ``vqad.headers`` has found whole and not too large.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32, Integer
from PIL import ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from vqad.array_types import Pixels
from vqad.images.headers import ImageError, pillow_warnings, probe

# Guesses: ten times a large industrial camera's picture, and its bytes at 16 bits uncompressed.
MAX_PIXELS: Final = 100_000_000
MAX_BYTES: Final = 640 * 2**20

# The rules, to be kept with what was fitted by them; another version gives other pixels.
PREPROCESSING: Final[dict[str, Any]] = {
    "version": 1,
    "formats": ["BMP", "JPEG", "PNG", "TIFF", "WebP"],
    "channels": "RGB",
    "exif_rotation": "applied",
    "alpha": "dropped",
    "eight_bit": "divided by 255",
    "sixteen_bit": "divided by 65535",
    "cmyk": "converted",
    "tiff_page": "first",
    "resize_shrinking": "INTER_AREA",
    "resize_enlarging": "INTER_LINEAR",
    "resize_sides": "each on its own",
    "aspect_ratio": "not kept",
}

# What OpenCV would print about a file that fails goes into that file's row.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture at the model's input size, and the size that it had."""

    pixels: Pixels  # uint8 or uint16, RGB
    source_width_px: int  # as a person sees it: after EXIF rotation
    source_height_px: int


def decode(
    data: bytes, *, size_px: int, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Decoded:
    """Pixels of one encoded picture, ``size_px`` high and wide; raises ``ImageError``."""
    if size_px < 1:
        raise ValueError(f"size_px must be at least 1, got {size_px}")
    if not data:
        raise ImageError("empty", "no bytes")
    if len(data) > max_bytes:
        raise ImageError("too_large", f"{len(data)} bytes, more than {max_bytes}")
    header = probe(data, max_pixels=max_pixels)
    by_pillow = header.format == "TIFF" and header.bits <= 8
    source = _pillow(data) if by_pillow else _opencv(data)
    if source is None:
        raise ImageError("unreadable", f"{header.format} data are corrupt")
    pixels = _resize(source, size_px)
    return Decoded(
        pixels=pixels if by_pillow else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB),
        source_width_px=source.shape[1],
        source_height_px=source.shape[0],
    )


def to_unit(pixels: Integer[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Values in [0, 1] of uint8 pixels (divided by 255) or uint16 ones (divided by 65535)."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, got {pixels.dtype}")
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def stack(pictures: Sequence[Pixels]) -> Integer[np.ndarray, "batch height width 3"]:
    """One array of pictures of one size: uint8, or uint16 where any of them is.

    8-bit values among 16-bit ones are multiplied by 257, which is exact: v / 255 = 257 v / 65535.
    """
    if all(pixels.dtype == np.uint8 for pixels in pictures):
        return np.stack(pictures)
    return np.stack(
        [pixels * np.uint16(257) if pixels.dtype == np.uint8 else pixels for pixels in pictures]
    )


def _resize(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Each side on its own: OpenCV's INTER_AREA skips pixels where the other side grows."""
    height_px, width_px = pixels.shape[:2]
    inner = (min(width_px, size_px), min(height_px, size_px))
    shrunk = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def _opencv(data: bytes) -> np.ndarray | None:
    """In BGR order: asked for RGB, OpenCV 5.0 scrambles 16-bit TIFF."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels if pixels is not None and pixels.dtype in (np.uint8, np.uint16) else None


def _pillow(data: bytes) -> np.ndarray | None:
    try:
        # Not Image.open, which refuses large pictures by a limit in a global variable.
        with pillow_warnings("ignore"), TiffImageFile(io.BytesIO(data)) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return np.asarray(picture.convert("RGB"))
    except Exception:  # Pillow raises anything at all on broken data
        return None
