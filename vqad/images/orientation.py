"""The orientation that the metadata of a PNG or a WebP state, and pictures turned by it.

OpenCV turns a picture only if it finds EXIF in the usual place. Programs also write EXIF into a
text of a PNG, EXIF with the prefix that a JPEG needs into a WebP, and the orientation into XMP. If
a file has both, EXIF counts, as for Pillow.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from PIL import Image

from vqad.images.headers import pillow_warnings

_ORIENTATION_TAG: Final = 274
_XMP_ORIENTATION: Final = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])")
_LARGEST_TEXT_BYTES: Final = 2**22  # of a compressed text of a PNG
_EXIF_TEXTS: Final = (b"Raw profile type exif", b"Raw profile type APP1")
_XMP_TEXT: Final = b"XML:com.adobe.xmp"

Found = tuple[bytes, bytes]  # b"exif" or b"xmp", and the data

# What turns the stored picture upright; 1 is upright.
_TURNS: Final[dict[int, Callable[[np.ndarray], np.ndarray]]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


def turned_upright(pixels: np.ndarray, data: bytes, kind: str) -> np.ndarray:
    """The decoded pixels of a PNG or WebP file, turned as the file's metadata say."""
    turn = _TURNS.get(_orientation(data, kind))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation(data: bytes, kind: str) -> int:
    metadata = {"PNG": _png, "WebP": _webp}[kind]
    found: dict[bytes, bytes] = {}
    for name, content in metadata(data):
        found.setdefault(name, content)  # of several, the first one counts
    return _of_exif(found.get(b"exif", b"")) or _of_xmp(found.get(b"xmp", b"")) or 1


def _of_exif(data: bytes) -> int:
    """0 if there is none, or none that can be read: broken metadata don't make a broken picture."""
    if not data:
        return 0
    exif = Image.Exif()
    try:
        with pillow_warnings("ignore"):
            exif.load(data)
            value = exif.get(_ORIENTATION_TAG, 0)
    except Exception:  # Pillow may raise any exception if the data are broken
        return 0
    return value if isinstance(value, int) else 0


def _of_xmp(data: bytes) -> int:
    match = _XMP_ORIENTATION.search(data)
    return int(match[1]) if match else 0


def _webp(data: bytes) -> Iterator[Found]:
    start = 12
    while start + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, start)
        content = data[start + 8 : start + 8 + length]
        if kind == b"EXIF":
            yield b"exif", content
        elif kind == b"XMP ":
            yield b"xmp", content
        start += 8 + length + length % 2


def _png(data: bytes) -> Iterator[Found]:
    start, kind = 8, b""
    while kind != b"IEND" and start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        if kind == b"eXIf":
            yield b"exif", data[start + 8 : start + 8 + length]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            yield from _png_text(kind, data[start + 8 : start + 8 + length])
        start += 12 + length


def _png_text(kind: bytes, content: bytes) -> Iterator[Found]:
    keyword, _, rest = content.partition(b"\0")
    if keyword == _XMP_TEXT and kind == b"iTXt":
        is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        yield b"xmp", _inflated(text) if is_packed else text
    elif keyword in _EXIF_TEXTS and kind != b"iTXt":
        text = _inflated(rest[1:]) if kind == b"zTXt" else rest
        # A line feed, the name, the length, then hexadecimal digits in lines.
        digits = b"".join(text.split(b"\n")[3:]).decode("ascii", "replace")
        try:
            yield b"exif", bytes.fromhex(digits)
        except ValueError:
            return


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LARGEST_TEXT_BYTES)
    except zlib.error:
        return b""
