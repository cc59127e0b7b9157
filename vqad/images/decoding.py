"""Decode an image file to pixels of the model's input size, and pixels to values in [0, 1].

Decoding is part of the method: if two programs turn one file into different pixels, they may give
different verdicts. So the rules are kept in one place, and every detector records them
(``PREPROCESSING``). OpenCV decodes all formats except TIFF of up to 8 bits per channel, which
Pillow decodes, because OpenCV multiplies their colours by alpha, and except BMP whose channels are
given by masks. ``vqad.images.headers`` first refuses files that are incomplete or too large.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32, Integer, UInt8
from PIL import ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from vqad.array_types import Pixels
from vqad.images import memory
from vqad.images.bmp_masks import decode_masked, masks_of
from vqad.images.headers import Header, ImageError, pillow_warnings, probe
from vqad.images.jpeg_end import ends_early
from vqad.images.orientation import turned_upright
from vqad.images.placement import ImageForm, Resize
from vqad.images.roi import resized

# Guesses: ten times the pixels of a large industrial camera, and their size at 16 bits a channel.
MAX_PIXELS: Final = 100_000_000
MAX_BYTES: Final = 640 * 2**20

# Bit depths of cameras whose images are stored in 16-bit files without scaling.
CAMERA_BITS: Final = (10, 12, 14)

# The rules, which every detector records. Another version of the rules gives other pixels.
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

# What a detector that keeps the aspect ratio records instead.
_KEPT: Final = {
    "resize_sides": "the longer one to the input's size, the other one in proportion",
    "aspect_ratio": "kept, and padded with the nearest pixel",
}


def preprocessing(resize: Resize) -> dict[str, Any]:
    """The rules of detectors that resize in this way."""
    return PREPROCESSING | (_KEPT if resize == "pad" else {})


# OpenCV would print its errors. The row of the file reports them instead.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, kw_only=True)
class SourceValues:
    """The values of an image before it is resized, over all channels."""

    num_distinct: int
    largest: int


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image at the model's input size, and its original size."""

    pixels: Pixels  # uint8 or uint16, RGB
    source_width_px: int  # after EXIF rotation
    source_height_px: int
    values: SourceValues | None = None  # if asked for

    @property
    def source_px(self) -> tuple[int, int]:
        """Width and height of the source image."""
        return self.source_width_px, self.source_height_px


def decode(
    data: bytes,
    *,
    size_px: int,
    resize: Resize = "squash",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    with_values: bool = False,
) -> Decoded:
    """Decode one image file to ``size_px`` x ``size_px`` pixels; raises ``ImageError``."""
    if size_px < 1:
        raise ValueError(f"size_px must be at least 1, got {size_px}")
    form = ImageForm(size_px=size_px, resize=resize)
    header = _header(data, max_pixels, max_bytes)
    with memory.DECODING.reserved(memory.decoding_bytes(header)):
        return _decode(data, header, form, with_values)


def decode_as(form: ImageForm, data: bytes, *, with_values: bool = False) -> Decoded:
    """Decode one image file to the form that a detector takes; raises ``ImageError``."""
    found = decode(data, size_px=form.size_px, resize=form.resize, with_values=with_values)
    if reason := form.refusal(found.source_px):
        raise ImageError("unsupported", reason)
    return found


@dataclass(frozen=True, kw_only=True)
class WholeImage:
    """An image in its own size, of which tiles are cut. Its pixels are in memory once."""

    source: Integer[np.ndarray, "height width 3"]  # uint8 or uint16
    is_rgb: bool  # else BGR: only tiles are converted, because a converted copy would be a second
    values: SourceValues | None = None  # if asked for

    @property
    def height_px(self) -> int:
        """Rows, after EXIF rotation."""
        return self.source.shape[0]

    @property
    def width_px(self) -> int:
        """Columns, after EXIF rotation."""
        return self.source.shape[1]

    def tile(self, top: int, left: int, *, tile_px: int, size_px: int) -> Pixels:
        """A square of the image at the model's input size, RGB."""
        return self._resized(self.source[top : top + tile_px, left : left + tile_px], size_px)

    def small(self, size_px: int) -> Pixels:
        """All of the image, squashed to a square, RGB."""
        return self._resized(self.source, size_px)

    def _resized(self, part: np.ndarray, size_px: int) -> Pixels:
        pixels = resized(part, (size_px, size_px))
        return pixels if self.is_rgb else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


@contextmanager
def opened_whole(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    with_values: bool = False,
) -> Iterator[WholeImage]:
    """Decode one image file in its own size; raises ``ImageError``.

    Its memory counts in the budget of this process while the block runs.
    """
    header = _header(data, max_pixels, max_bytes)
    with memory.DECODING.reserved(memory.decoding_bytes(header)):
        source = _source(data, header)
        values = _values(source) if with_values else None
        yield WholeImage(source=source, is_rgb=_is_by_pillow(header), values=values)


def decode_whole(data: bytes) -> WholeImage:
    """Decode one image file in its own size; raises ``ImageError``."""
    with opened_whole(data) as image:
        return image


def decode_source(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one image file to 8-bit RGB in its own size, for people; raises ``ImageError``.

    16-bit values are divided by the range of the camera that could have made them.
    """
    header = _header(data, MAX_PIXELS, MAX_BYTES)
    with memory.DECODING.reserved(memory.decoding_bytes(header)):
        source = _source(data, header)
        if not _is_by_pillow(header):
            source = cv2.cvtColor(source, cv2.COLOR_BGR2RGB)
    if source.dtype == np.uint16:
        bits = bits_of(int(source.max()))
        source = (to_full_range(source, bits) >> 8).astype(np.uint8)
    return source


def _header(data: bytes, max_pixels: int, max_bytes: int) -> Header:
    if not data:
        raise ImageError("empty", "no bytes")
    if len(data) > max_bytes:
        raise ImageError("too_large", f"{len(data)} bytes, more than {max_bytes}")
    return probe(data, max_pixels=max_pixels)


def _is_by_pillow(header: Header) -> bool:
    return header.format == "TIFF" and header.bits <= 8


def _source(data: bytes, header: Header) -> np.ndarray:
    """All pixels of the file: RGB by Pillow, BGR by OpenCV."""
    source = _pillow(data) if _is_by_pillow(header) else _opencv(data, header.format)
    if source is None:
        raise ImageError("unreadable", f"{header.format} data are corrupt")
    if header.format == "JPEG" and ends_early(data, header, source):
        raise ImageError("truncated", "JPEG data end before the picture is complete")
    return source


def _decode(data: bytes, header: Header, form: ImageForm, with_values: bool) -> Decoded:
    source = _source(data, header)
    pixels = form.with_padding(source)
    return Decoded(
        pixels=pixels if _is_by_pillow(header) else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB),
        source_width_px=source.shape[1],
        source_height_px=source.shape[0],
        values=_values(source) if with_values else None,
    )


def _values(source: np.ndarray) -> SourceValues:
    num = int(np.iinfo(source.dtype).max) + 1
    histograms = [cv2.calcHist([source], [each], None, [num], [0, num]) for each in range(3)]
    (found,) = np.nonzero(np.sum(histograms, axis=0).ravel())
    return SourceValues(num_distinct=len(found), largest=int(found[-1]))


def bits_of(largest: int) -> int:
    """The bit depth of a camera that stores values up to ``largest`` in 16-bit files."""
    return next((bits for bits in CAMERA_BITS if largest < 2**bits), 16)


def to_full_range(
    pixels: Integer[np.ndarray, "*tiles height width 3"], bits: int
) -> Integer[np.ndarray, "*tiles height width 3"]:
    """16-bit values of ``bits`` significant bits, clipped, and scaled to the range of 16 bits."""
    if pixels.dtype != np.uint16 or bits == 16:
        return pixels
    largest = 2**bits - 1
    scaled = np.minimum(pixels, largest) * (65535 / largest)
    return np.round(scaled).astype(np.uint16)


def to_unit(pixels: Integer[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Values in [0, 1]: uint8 pixels divided by 255, uint16 pixels by 65535."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, got {pixels.dtype}")
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def stack(
    images: Sequence[Integer[np.ndarray, "*tiles height width 3"]], *, bits: int = 16
) -> Integer[np.ndarray, "batch *tiles height width 3"]:
    """One array of images of equal size, or of tiles: uint8, or uint16 if any image is uint16.

    In the second case 8-bit values are multiplied by 257, which is exact: v / 255 = 257 v / 65535.
    16-bit values of fewer significant ``bits`` are scaled to the range of 16 bits.
    """
    if all(pixels.dtype == np.uint8 for pixels in images):
        return np.stack(images)
    return np.stack(
        [
            pixels * np.uint16(257) if pixels.dtype == np.uint8 else to_full_range(pixels, bits)
            for pixels in images
        ]
    )


def _opencv(data: bytes, kind: str) -> np.ndarray | None:
    """Pixels in BGR order: if asked for RGB, OpenCV 5.0 mixes up the channels of 16-bit TIFF."""
    if kind == "BMP" and (masks := masks_of(data)):
        return decode_masked(data, masks)
    if kind in ("PNG", "WebP"):
        pixels = _decoded_by_opencv(data, cv2.IMREAD_IGNORE_ORIENTATION)
        return None if pixels is None else turned_upright(pixels, data, kind)
    return _decoded_by_opencv(data)


def _decoded_by_opencv(data: bytes, more_flags: int = 0) -> np.ndarray | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | more_flags
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels if pixels is not None and pixels.dtype in (np.uint8, np.uint16) else None


def _pillow(data: bytes) -> np.ndarray | None:
    try:
        # Image.open would refuse large images by a limit in a global variable.
        with pillow_warnings("ignore"), TiffImageFile(io.BytesIO(data)) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return np.asarray(picture.convert("RGB"))
    except Exception:  # Pillow may raise any exception if the data are broken
        return None
