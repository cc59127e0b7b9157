"""Rows of images whose detector takes tiles: they are read where they are inspected.

Such an image may have a hundred million pixels, and blocks of them between two stages would fill
the memory. So the decoding stage passes on the name of a file alone, and the bytes of a member of
a shard, which can't be read by its name without reading the shard again. The inspector reads one
image at a time.
"""

import time
from dataclasses import dataclass
from typing import Any

from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.decoding import WholeImage
from vqad.images.headers import ImageError
from vqad.images.placement import ImageForm
from vqad.inspection import shadow
from vqad.storage import files
from vqad.storage.errors import FetchError

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A row, and its image, or the row as a reject without one."""

    row: Row
    image: WholeImage | None = None


def opened(row: Row, form: ImageForm) -> Opened:
    """Read and decode the image of a row."""
    start_s = time.monotonic()
    try:
        data = row["data"]
        if data is None:
            data = files.read_bytes(row["image"], max_bytes=decoding.MAX_BYTES)
        fetched_s = time.monotonic()
        image = decoding.decode_whole(data)
        if reason := form.refusal((image.width_px, image.height_px)):
            raise ImageError("unsupported", reason)
    except (FetchError, ImageError) as error:
        return Opened(row=row | {"error": error.error, "error_detail": error.detail})
    read = {
        "width_px": image.width_px,
        "height_px": image.height_px,
        "fetch_seconds": row["fetch_seconds"] + fetched_s - start_s,
        "decode_seconds": time.monotonic() - fetched_s,
    }
    return Opened(row=row | read, image=image)


def shadow_of(row: Row, detector: Detector, image: WholeImage, batch_size: int) -> Row | None:
    """A shadow's columns of an image; None where it can't judge, and the night goes on."""
    try:
        found, _ = detector.inspect_whole(image, batch_size=batch_size)
    except DetectorError:
        return None
    return shadow.judged(row, detector, found, 0)
