"""Format, size and completeness of an encoded image, read before any pixel is decoded.

Decoders differ in what they do with half a file: some paint the rest grey, some refuse it. And a
header of a few bytes can ask for gigabytes of pixels. So the size and structure of a file are
checked here first. They are read from its content, never from its name: in a PNG the checksums, in
a JPEG all markers up to the end marker, in other formats the lengths that the file states. A file
that is cut anywhere is found to be truncated. Wrong bytes in the compressed data of a JPEG or a
WebP, or in uncompressed pixels, are not found, because these formats have no checksum.
"""

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, NoReturn

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vqad.images.signatures import REFUSED, SUPPORTED
from vqad.storage.errors import VqadError
from vqad.tables import ERRORS

# File name endings, in lower case, of files that are listed as images. Formats that can't be
# decoded are included, so that each such file gets a reject row.
EXTENSIONS: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"}
    | {".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl"}
)


class ImageError(VqadError, ValueError):
    """Undecodable bytes: ``error`` is one of ``tables.ERRORS``, ``detail`` gives the reason."""

    def __init__(self, error: str, detail: str) -> None:
        assert error in ERRORS, error
        super().__init__(error, detail)
        self.error = error
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, kw_only=True)
class Header:
    """Format, size in the file (before EXIF rotation), and what decoding needs to know."""

    format: str
    width_px: int
    height_px: int
    bits: int = 8  # per channel
    num_scans: int = 1  # of a JPEG
    end_byte: int = 0  # where the end marker of a JPEG is


def probe(data: bytes, *, max_pixels: int) -> Header:
    """Header of a complete image of a supported format; raises ``ImageError`` for anything else."""
    name = _format(data)
    try:
        return _PROBES[name](data, max_pixels)
    except struct.error:
        _truncated(name)


def _format(data: bytes) -> str:
    for name, signature in SUPPORTED.items():
        if signature.match(data):
            return name
    for name, signature in REFUSED.items():
        if signature.match(data):
            raise ImageError("unsupported", f"{name} is not a supported format")
    raise ImageError("unreadable", "not a picture of any known format")


def _truncated(name: str) -> NoReturn:
    raise ImageError("truncated", f"{name} file ends early")


def _admit(name: str, width_px: int, height_px: int, max_pixels: int, bits: int = 8) -> Header:
    if width_px < 1 or height_px < 1:
        raise ImageError("unreadable", f"{name} of {width_px} x {height_px} pixels")
    if width_px * height_px > max_pixels:
        raise ImageError(
            "too_large", f"{name} of {width_px} x {height_px} pixels, more than {max_pixels}"
        )
    return Header(format=name, width_px=width_px, height_px=height_px, bits=bits)


def _png(data: bytes, max_pixels: int) -> Header:
    width_px, height_px, bits = struct.unpack_from(">IIB", data, 16)
    header = _admit("PNG", width_px, height_px, max_pixels, bits)
    start, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, start)
        if (start == 8) != (kind == b"IHDR"):
            raise ImageError("unreadable", "PNG whose first chunk is not its header")
        if kind == b"acTL":
            raise ImageError("unsupported", "animated PNG is not a supported format")
        end = start + 12 + length
        (expected,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != expected:
            raise ImageError("unreadable", "PNG data do not match their checksum")
        start = end
    return header


# Any marker except those inside compressed data: stuffed zeros (FF 00) and restarts (FF D0 to D7).
_JPEG_MARKER: Final = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_JPEG_START, _JPEG_END = 0xD8, 0xD9
_JPEG_SCAN: Final = 0xDA
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # of JPEG-LS
_JPEG_UNSUPPORTED_FRAMES: Final = _JPEG_FRAMES - {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}


def _jpeg(data: bytes, max_pixels: int) -> Header:
    # The end marker is looked for from marker to marker, not from the end of the file: a thumbnail
    # inside has an end marker of its own, and cameras append data to the last one.
    header, position, num_scans = None, 2, 0
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _JPEG_END:
            header = header or _admit("JPEG", 0, 0, max_pixels)
            return replace(header, num_scans=num_scans, end_byte=found.start())
        if marker == _JPEG_START:
            continue
        num_scans += marker == _JPEG_SCAN
        if marker in _JPEG_UNSUPPORTED_FRAMES:
            raise ImageError("unsupported", "lossless or hierarchical JPEG is not supported")
        if marker in _JPEG_FRAMES:
            bits, height_px, width_px = struct.unpack_from(">BHH", data, position + 2)
            if bits != 8:
                raise ImageError("unsupported", f"JPEG of {bits} bits is not supported")
            header = _admit("JPEG", width_px, height_px, max_pixels)
        (length,) = struct.unpack_from(">H", data, position)
        position += length
    _truncated("JPEG")


def _webp(data: bytes, max_pixels: int) -> Header:
    length, kind, flags = struct.unpack_from("<I4x4s4xB", data, 4)
    # Each of the three kinds of WebP keeps its size elsewhere: 24 bits each, less one, after the
    # flags of an extended file; 14 bits each in the bit stream of a lossless or a lossy one.
    if kind == b"VP8X":
        width_px, height_px = (1 + (struct.unpack_from("<I", data, at)[0] >> 8) for at in (23, 26))
        if flags & 0x02:
            raise ImageError("unsupported", "animated WebP is not a supported format")
    elif kind == b"VP8L":
        (both,) = struct.unpack_from("<I", data, 21)
        width_px, height_px = 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width_px, height_px = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ImageError("unreadable", "WebP without a picture")
    header = _admit("WebP", width_px, height_px, max_pixels)
    if len(data) < 8 + length:
        _truncated("WebP")
    return header


_BMP_HEADERS_BYTES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})


def _bmp(data: bytes, max_pixels: int) -> Header:
    offset, header_bytes = struct.unpack_from("<II", data, 10)
    compression = length = 0
    if header_bytes not in _BMP_HEADERS_BYTES:
        raise ImageError("unreadable", "not a picture of any known format")
    if header_bytes == 12:
        width_px, height_px, bits = struct.unpack_from("<HH2xH", data, 18)
    else:  # a negative height means that the rows are stored from top to bottom
        width_px, height_px, bits, compression, length = struct.unpack_from("<ii2xHII", data, 18)
    header = _admit("BMP", width_px, abs(height_px), max_pixels)
    # In the header of OS/2, which has 64 bytes, 3 is a compression of text.
    if compression > 3 or (compression == 3 and header_bytes == 64):
        raise ImageError("unsupported", "BMP that contains another format is not supported")
    if compression in (0, 3):  # run-length data (1, 2) have no length that follows from the size
        length = (width_px * bits + 31) // 32 * 4 * abs(height_px)
    if len(data) < offset + length:
        _truncated("BMP")
    return header


_FILTER_LOCK = threading.Lock()


@contextmanager
def pillow_warnings(action: Literal["error", "ignore"]) -> Iterator[None]:
    """Raise or drop Pillow's warnings about odd metadata, in one thread at a time.

    The warning filters belong to the whole process: two threads that change and restore them at
    the same time can leave them changed for good.
    """
    with _FILTER_LOCK, warnings.catch_warnings():
        warnings.simplefilter(action)
        yield


def _tiff(data: bytes, max_pixels: int) -> Header:
    """Check the first page only: its directory, the directory's values, its strips or tiles."""
    try:
        tags = _TiffTags(data)
        header = _tiff_header(tags, max_pixels)
        if tags.end_bytes() > len(data) or tags.num_pieces() < tags.num_pieces_expected():
            _truncated("TIFF")
    except Warning:  # loading a directory warns only if bytes are missing
        _truncated("TIFF")
    except (SyntaxError, LookupError, TypeError, ArithmeticError) as error:
        raise ImageError("unreadable", "TIFF directory is corrupt") from error
    return header


class _TiffTags:
    """Numbers in the first directory, read by Pillow without decoding any pixels."""

    def __init__(self, data: bytes) -> None:
        stream = io.BytesIO(data)
        self._tags = ImageFileDirectory_v2(stream.read(16 if data[2:3] == b"+" else 8))
        stream.seek(self._tags.next)
        with pillow_warnings("error"):
            self._tags.load(stream)

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        with pillow_warnings("ignore"):
            found = self._tags.get(tag, default)
        values = tuple(found) if isinstance(found, tuple | bytes) else (found,)
        if not all(isinstance(value, int) for value in values):
            raise TypeError(f"tag {tag} is not a number")
        return values

    def end_bytes(self) -> int:
        """End of the last strip or tile in the file; LookupError if there are none."""
        for starts, lengths in ((273, 279), (324, 325)):
            where = zip(self.numbers(starts), self.numbers(lengths), strict=False)
            if ends := [start + length for start, length in where]:
                return max(ends)
        raise LookupError("no strips or tiles")

    def num_pieces(self) -> int:
        """How many strips or tiles there are that have any bytes."""
        lengths = self.numbers(279) or self.numbers(325)
        return sum(length > 0 for length in lengths)

    def num_pieces_expected(self) -> int:
        """How many strips or tiles a complete picture has. Pixels of others would be undefined."""
        width_px, height_px = self.numbers(256)[0], self.numbers(257)[0]
        channels, planes = (self.numbers(tag, (1,))[0] for tag in (277, 284))
        if self.numbers(279):
            across, rows = 1, self.numbers(278, (height_px,))[0]
        else:
            across, rows = -(-width_px // self.numbers(322)[0]), self.numbers(323)[0]
        return across * -(-height_px // rows) * (channels if planes == _SEPARATE else 1)


_YCBCR, _JPEG_COMPRESSION, _SEPARATE = 6, 7, 2
_COMPRESSIONS_16_BIT: Final = frozenset({1, 5, 8, 32773, 32946})  # that OpenCV can read
_COMPRESSIONS: Final = _COMPRESSIONS_16_BIT | {2, 3, 4, 6, 7, 32771, 34925, 50000}


def _is_unchecked_ycbcr(tags: _TiffTags) -> bool:
    """True for YCbCr that libtiff converts: it then fills missing data with black, unnoticed."""
    compression, sampling = tags.numbers(259, (1,))[0], tags.numbers(530, (2, 2))
    return compression != _JPEG_COMPRESSION and (compression != 1 or sampling != (1, 1))


def _tiff_header(tags: _TiffTags, max_pixels: int) -> Header:
    width_px, height_px = tags.numbers(256)[0], tags.numbers(257)[0]
    kinds = set(tags.numbers(339, (1,)))
    depths = set(tags.numbers(258, (1,)))
    colours, channels, planes = (tags.numbers(tag, (1,))[0] for tag in (262, 277, 284))
    header = _admit("TIFF", width_px, height_px, max_pixels, max(depths))
    if not kinds <= {1, 4}:
        raise ImageError("unsupported", "TIFF of floating-point or signed numbers")
    if len(depths) != 1 or not depths <= {1, 2, 4, 8, 16}:
        raise ImageError("unsupported", f"TIFF of {sorted(depths)} bits a channel")
    if colours not in (0, 1, 2, 3, 5, 6):
        raise ImageError("unsupported", f"TIFF of colour space {colours}")
    if colours == _YCBCR and _is_unchecked_ycbcr(tags):
        raise ImageError("unsupported", "TIFF in YCbCr that is not compressed by JPEG")
    compression = tags.numbers(259, (1,))[0]
    if compression not in (_COMPRESSIONS_16_BIT if header.bits == 16 else _COMPRESSIONS):
        raise ImageError("unsupported", f"{header.bits}-bit TIFF of compression {compression}")
    if header.bits == 16 and ((colours, channels) not in {(1, 1), (2, 3), (2, 4)} or planes != 1):
        raise ImageError("unsupported", "16-bit TIFF that is not plain grey or RGB")
    return header


_PROBES: Final[dict[str, Callable[[bytes, int], Header]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "TIFF": _tiff,
    "WebP": _webp,
    "BMP": _bmp,
}
