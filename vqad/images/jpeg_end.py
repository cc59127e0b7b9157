"""JPEG files whose data end early although they have an end marker.

A decoder fills what is missing with grey, which is a defect where there is none or hides one. Such
a file is well-formed: a program that repairs or copies broken files adds the marker.
"""

import hashlib
import io
from typing import Final

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from vqad.images.headers import Header, pillow_warnings

# Compressed data that mean something for most tables of codes, with all restart markers: a decoder
# that waits for one passes over what comes before it.
_CODES: Final = bytes(range(1, 255, 2))
_MORE_DATA: Final = _CODES + b"".join(bytes((0xFF, 0xD0 + number)) + _CODES for number in range(8))

_ROWS: Final = 256  # that are added to a digest at a time

# A missing block has the middle value in all channels: grey of 128, or in CMYK, whose black is
# applied to it, about half of it.
_GREYS: Final = (128, *range(60, 70))


def ends_early(data: bytes, header: Header, pixels: np.ndarray) -> bool:
    """True if the data of a decoded JPEG don't reach to the last pixel.

    A decoder stops reading after the last block of pixels. So more data before the end marker
    change nothing in a complete file, but they do where blocks are missing. Comparing costs two
    more decodings, so a picture in one scan is compared only if one of its corners is of that grey:
    the last block is in a corner, whichever way the picture is turned. Where there are several
    scans, as in a progressive file, missing data need not leave grey.
    """
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    may_be_filled = np.isin(corners, _GREYS).all(axis=1).any()
    if header.num_scans == 1 and not may_be_filled:
        return False
    longer = data[: header.end_byte] + _MORE_DATA + data[header.end_byte :]
    one, other = _digest(data), _digest(longer)
    return one is not None and other is not None and one != other


def _digest(data: bytes) -> bytes | None:
    """A digest of all pixels, so that only one decoding is in memory at a time."""
    digest = hashlib.blake2b()
    try:
        with pillow_warnings("ignore"), JpegImageFile(io.BytesIO(data)) as picture:
            for top in range(0, picture.height, _ROWS):
                strip = (0, top, picture.width, min(top + _ROWS, picture.height))
                digest.update(picture.crop(strip).tobytes())
    except Exception:  # Pillow may raise any exception if the data are broken
        return None
    return digest.digest()
