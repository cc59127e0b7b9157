"""Compare-and-swap writes: a file is written only if nobody else has written it meanwhile.

On object storage the conditions are ``If-None-Match`` and ``If-Match``, so the store decides
which writer was first. In a local folder they are ``O_EXCL`` and a file lock, which the system
releases when the process ends. Files written this way are never deleted: after a deletion, two
writers could each believe to be the first.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from vqad.storage import files, s3
from vqad.storage.errors import FetchError
from vqad.storage.failure import PRECONDITION_FAILED
from vqad.storage.retries import ATTEMPTS, errors_at, with_retries
from vqad.storage.uris import is_remote, path_of

LARGEST_BYTES: Final = 2**16


def read(uri: str) -> tuple[bytes, str] | None:
    """Content and a tag that changes with it; None if there is no file. Raises ArchiveError."""
    with errors_at(uri):
        try:
            if is_remote(uri):
                bucket, key = s3.bucket_and_key(uri)
                return s3.read_tagged(bucket, key, max_bytes=LARGEST_BYTES)
            return with_retries(lambda: _read_locally(Path(path_of(uri))))
        except FetchError as failure:
            if failure.error == "missing" and failure.detail != "no such bucket":
                return None
            raise


def write(uri: str, data: bytes, *, tag: str | None) -> bool:
    """Write if the current content has this tag; if ``tag`` is None, only if there is no file.

    Returns whether the content was written; raises ArchiveError.
    """
    with errors_at(uri):
        if is_remote(uri):
            return _put(uri, data, tag)
        path = Path(path_of(uri))
        if tag is None:
            return with_retries(lambda: _create_locally(path, data))
        return with_retries(lambda: _replace_locally(path, data, tag))


def swap(uri: str, data: bytes, *, tag: str | None) -> bool:
    """The same for a file that others read without a lock: they find the old or the new content.

    ``write`` changes a local file in place, so that a kill may leave a part of it. This one renames
    a complete file. Its lock is on the folder, because renaming ends a lock on the file.
    """
    if is_remote(uri):
        return write(uri, data, tag=tag)
    folder = Path(path_of(uri)).parent
    with errors_at(uri):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked_folder(folder):
            found = read(uri)
            if (found and found[1]) != tag:
                return False
            files.write_bytes(uri, data)
            return True


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _put(uri: str, data: bytes, tag: str | None) -> bool:
    bucket, key = s3.bucket_and_key(uri)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    try:
        s3.request("put_object", attempts=ATTEMPTS, Bucket=bucket, Key=key, Body=data, **condition)
    except FetchError as failure:
        if failure.detail != PRECONDITION_FAILED:
            raise
        # A retry gets this answer too, if the first request succeeded but its response was lost.
        found = read(uri)
        return found is not None and found[0] == data
    return True


def _read_locally(path: Path) -> tuple[bytes, str]:
    with path.open("rb", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return _content(file)


def _content(file: FileIO) -> tuple[bytes, str]:
    data = file.read(LARGEST_BYTES)
    return data, hashlib.sha256(data).hexdigest()


def _create_locally(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb", buffering=0) as file, _locked(file):
            _fill(file, data)
    except FileExistsError:
        return False
    return True


def _replace_locally(path: Path, data: bytes, tag: str) -> bool:
    with path.open("r+b", buffering=0) as file, _locked(file):
        if _content(file)[1] != tag:
            return False
        file.seek(0)
        _fill(file, data)
    return True


def _fill(file: FileIO, data: bytes) -> None:
    file.write(data)
    file.truncate()
    os.fsync(file.fileno())


@contextmanager
def _locked(file: FileIO) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)  # closing the file releases the lock
    yield
