"""Pictures in BMP whose pixels are 16 or 32 bits that masks divide into channels.

OpenCV shifts 5 bits to the left, so that white becomes 248, refuses some headers with masks, and
passes over masks that it doesn't expect. So these files are decoded here.
"""

import struct
from typing import Final

import numpy as np

from vqad.images.headers import ImageError

_MASKED: Final = 3  # the compression that says: there are masks
_MASKS_BYTE: Final = 54  # where they are, after a header of 40 bytes or inside a longer one
_USUAL_32_BIT: Final = (0xFF0000, 0xFF00, 0xFF)  # OpenCV decodes these correctly
_USUAL_16_BIT: Final = (0x7C00, 0x3E0, 0x1F)  # if there are no masks
_ROWS: Final = 256  # decoded at a time, to need little memory beside the result


def masks_of(data: bytes) -> tuple[int, int, int] | None:
    """The masks of red, green and blue, or None for a file that OpenCV decodes correctly."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes < 40:
        return None
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits == 16 and compression == 0:
        return _USUAL_16_BIT
    if bits not in (16, 32) or compression != _MASKED:
        return None
    masks = struct.unpack_from("<III", data, _MASKS_BYTE)
    return None if bits == 32 and masks == _USUAL_32_BIT else masks


def decode_masked(data: bytes, masks: tuple[int, int, int]) -> np.ndarray:
    """Pixels in BGR order; raises ImageError if a mask is not one run of bits."""
    for mask in masks:
        shifted = mask // (mask & -mask) if mask else 0
        if not shifted or shifted & (shifted + 1):
            raise ImageError("unsupported", f"BMP with the channel mask {mask:#x}")
    (start,) = struct.unpack_from("<I", data, 10)
    width_px, height_px, bits = struct.unpack_from("<ii2xH", data, 18)
    num_rows, row_bytes = abs(height_px), (width_px * bits + 31) // 32 * 4
    stored = np.frombuffer(data, np.uint8, num_rows * row_bytes, start)
    stored = stored.reshape(num_rows, row_bytes)[:, : width_px * bits // 8]
    pixels = np.empty((num_rows, width_px, 3), np.uint8)
    for at in range(0, num_rows, _ROWS):
        values = np.ascontiguousarray(stored[at : at + _ROWS]).view(f"<u{bits // 8}")
        for channel, mask in enumerate(reversed(masks)):
            pixels[at : at + _ROWS, :, channel] = _channel(values, mask)
    return pixels if height_px < 0 else np.ascontiguousarray(pixels[::-1])


def _channel(values: np.ndarray, mask: int) -> np.ndarray:
    """One channel, scaled so that the largest value becomes 255."""
    lowest_bit = mask & -mask
    largest = mask // lowest_bit
    found = (values & values.dtype.type(mask)) // values.dtype.type(lowest_bit)
    return found if largest == 255 else (found.astype(np.uint64) * 255 + largest // 2) // largest
