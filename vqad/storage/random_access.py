"""A file or object opened for reading at any position."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from vqad.storage import s3
from vqad.storage.errors import FetchError
from vqad.storage.failure import PRECONDITION_FAILED
from vqad.storage.files import check_regular
from vqad.storage.retries import with_retries
from vqad.storage.uris import is_remote, path_of

CHUNK_BYTES: Final = 8 * 2**20  # read per request
LOCAL_CHUNK_BYTES: Final = 2**18


@contextmanager
def opened(uri: str, *, size_bytes: int, etag: str = "") -> Iterator[Any]:
    """A seekable binary file. Reading raises FetchError, also if the object's ETag is another one.

    Any other exception of a program that reads from it is therefore about what it read.
    """
    if is_remote(uri):
        yield io.BufferedReader(_Object(uri, size_bytes, etag), CHUNK_BYTES)
        return
    with with_retries(lambda: _open_locally(Path(path_of(uri)))) as file:
        yield io.BufferedReader(_Local(file), LOCAL_CHUNK_BYTES)


def _open_locally(path: Path) -> io.FileIO:
    check_regular(path.stat())
    return path.open("rb", buffering=0)


class _Local(io.RawIOBase):
    """A local file, with retries: a share on a network fails as a store does."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        return with_retries(lambda: self._file.readinto(buffer))


class _Object(io.RawIOBase):
    """An object, read range by range: after a broken connection only one range is read again."""

    def __init__(self, uri: str, size_bytes: int, etag: str) -> None:
        self._bucket_and_key = s3.bucket_and_key(uri)
        self._size_bytes, self._position = size_bytes, 0
        self._condition = {"IfMatch": f'"{etag}"'} if etag else {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        self._position = max(0, start[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size_bytes)
        if end <= self._position:
            return 0
        data = self._read_range(self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read_range(self, start: int, end: int) -> bytes:
        options = {"Range": f"bytes={start}-{end - 1}", **self._condition}
        try:
            return s3.read_tagged(*self._bucket_and_key, max_bytes=end - start, **options)[0]
        except FetchError as failure:
            if failure.detail != PRECONDITION_FAILED:
                raise
            raise FetchError("fetch_failed", "the archive changed while it was read") from None
