"""Masks in picture files: the pixels that are not zero, whatever the kind of picture is."""

import cv2
import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from vqad.images import decoding, signatures
from vqad.storage import errors, files


def read_mask(uri: str) -> Bool[ndarray, "height width"]:
    """The pixels of a mask that are true. Raises ValueError if it is not a readable picture."""
    try:
        encoded = files.read_bytes(uri, max_bytes=decoding.MAX_BYTES)
    except errors.FetchError as error:
        raise ValueError(f"mask {uri}: {error}") from error
    return mask_of(encoded, uri)


def mask_of(encoded: bytes, uri: str) -> Bool[ndarray, "height width"]:
    """The same of the bytes of a file; ``uri`` is for the error text."""
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError(f"mask {uri} is not a readable picture; replace it")
    if signatures.SUPPORTED["JPEG"].match(encoded):
        # The compression leaves noise around zero, so half of the range of 8 bits decides.
        return _any_channel(pixels > 127)
    return true_pixels(pixels)


def true_pixels(pixels: ndarray) -> Bool[ndarray, "height width"]:
    """Pixels of a mask that are not zero: not black, and not fully transparent.

    Takes a picture (height, width) or (height, width, channels) with 1 to 4 channels of any number
    of bits, so masks with values 0 and 1, with a palette, or in colour are read alike. If all
    pixels are black and some of them transparent, those are true that are not transparent.
    """
    channels = pixels.reshape(*pixels.shape[:2], -1)
    if channels.shape[2] not in (2, 4):
        return _any_channel(channels != 0)
    coloured, opaque = _any_channel(channels[..., :-1] != 0), channels[..., -1] != 0
    if not coloured.any():
        return ~opaque if opaque.all() else opaque
    return coloured & opaque


def _any_channel(
    channels: Bool[ndarray, "height width *channels"],
) -> Bool[ndarray, "height width"]:
    flat: ndarray = channels.reshape(*channels.shape[:2], -1)
    return np.asarray(flat.any(2))
