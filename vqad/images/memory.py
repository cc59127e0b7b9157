"""Bounds on the memory that a process needs to read and to decode images.

A picture of a few hundred kilobytes can need more than a gigabyte while it is decoded, and a worker
decodes several images at a time. So a thread reserves the memory of its image first, and waits
until it is free. An image that needs more than the whole budget is decoded alone: no other thread
of this process decodes meanwhile, and no other process of this machine decodes such an image.
Thus the images of one machine need at most, for each worker, the budgets of ``READING`` and
``DECODING``, and once for all workers the largest file and the largest picture that are accepted.
"""

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from vqad.images.headers import Header


class MemoryBudget:
    """A number of bytes that the threads of this process share."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.name, self.limit_bytes = name, limit_bytes
        self.used_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, num_bytes: int) -> Iterator[None]:
        """Wait until so many bytes are free, and have them while the block runs.

        A thread that has bytes of ``READING`` may reserve some of ``DECODING``, but not the other
        way round, and none twice: else two threads could wait for each other.
        """
        is_large = num_bytes > self.limit_bytes
        with self._alone_on_this_machine() if is_large else nullcontext():
            taken = min(num_bytes, self.limit_bytes)
            with self._changed:
                self._changed.wait_for(lambda: self.used_bytes + taken <= self.limit_bytes)
                self.used_bytes += taken
            try:
                yield
            finally:
                with self._changed:
                    self.used_bytes -= taken
                    self._changed.notify_all()

    @contextmanager
    def _alone_on_this_machine(self) -> Iterator[None]:
        """Lock a file, which the system unlocks when the process ends, however it ends."""
        path = Path(tempfile.gettempdir(), f"vqad-{os.getuid()}-{self.name}.lock")
        try:
            # Not through a link, which another user could have put there.
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:  # without a folder for it, the bound is this process's alone
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


# Guesses: enough for eight threads with ordinary pictures of 5 megapixels.
READING: Final = MemoryBudget("read", 2**28)  # bytes of files
DECODING: Final = MemoryBudget("decode", 2**28)  # pixels and what decoders need beside them

# Measured with pictures of 10,000 x 10,000 pixels: the peak of OpenCV's decoders is twice the size
# of the pixels. Pillow's decoder of TIFF needs more. Of JPEG, measured with 4,000 x 4,000 pixels,
# some are decoded again to see that they are complete, and those in several scans need all of them
# in memory.
_BYTES_PER_PIXEL_8_BIT: Final = 6
_BYTES_PER_PIXEL_TIFF: Final = 14
_BYTES_PER_PIXEL_JPEG: Final = 8
_BYTES_PER_PIXEL_JPEG_SCANS: Final = 14


def decoding_bytes(header: Header) -> int:
    """The peak of memory while a picture is decoded, without its file."""
    num_pixels = header.width_px * header.height_px
    if header.format == "TIFF":
        return num_pixels * _BYTES_PER_PIXEL_TIFF
    if header.format == "JPEG":
        is_simple = header.num_scans <= 1
        return num_pixels * (_BYTES_PER_PIXEL_JPEG if is_simple else _BYTES_PER_PIXEL_JPEG_SCANS)
    return num_pixels * _BYTES_PER_PIXEL_8_BIT * (2 if header.bits == 16 else 1)
