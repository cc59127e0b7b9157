"""Listing, reading and writing, in local folders and under ``s3://bucket/prefix``."""

import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from vqad.storage import s3
from vqad.storage.errors import ArchiveError, FetchError
from vqad.storage.retries import ATTEMPTS, ATTEMPTS_WATCHED, mendable, persist
from vqad.storage.uris import is_remote, path_of

# A file that is being written: hidden from listings, replaced by its name when it is whole.
_WRITING: Final = ".writing-"


def filesystem(uri: str) -> tuple[Any, str]:
    """An fsspec file system and what it calls a place: an absolute path, or bucket/key."""
    if is_remote(uri):
        with mendable(uri):
            return s3.client(), path_of(uri)
    return LocalFileSystem(skip_instance_cache=True), path_of(uri)


def read_bytes(uri: str, *, max_bytes: int) -> bytes:
    """All bytes of a file or object, trying again what may pass; raises FetchError."""
    if is_remote(uri):
        return s3.read(*s3.bucket_and_key(uri), max_bytes=max_bytes)
    return persist(lambda: _read_locally(Path(path_of(uri)), max_bytes))


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file or object, whole or not at all; raises ArchiveError."""
    with mendable(uri):
        if is_remote(uri):
            bucket, key = s3.bucket_and_key(uri)
            s3.request("put_object", attempts=ATTEMPTS, Bucket=bucket, Key=key, Body=data)
        else:
            persist(lambda: _write_locally(Path(path_of(uri)), data))


def exists(uri: str) -> bool:
    """Whether there is such a file, folder, object or prefix; raises ArchiveError."""
    with mendable(uri):
        if not is_remote(uri):
            return persist(lambda: Path(path_of(uri)).exists(), attempts=ATTEMPTS_WATCHED)
        bucket, key = s3.bucket_and_key(uri)
        if key and s3.head(bucket, key):
            return True
        first = next(s3.pages(bucket, s3.folder(key), "/"))
    return not key or first.get("KeyCount", 0) > 0


def list_names(uri: str) -> list[str]:
    """Names of the children of a folder or prefix, sorted; raises ArchiveError if there is none."""
    with mendable(uri):
        if is_remote(uri):
            names = set(_names_s3(uri))
        else:
            names = persist(lambda: {child.name for child in Path(path_of(uri)).iterdir()})
    if is_remote(uri) and not names:
        raise ArchiveError(f"{uri}: no objects below it; check bucket and prefix")
    return sorted(name for name in names if not name.startswith(_WRITING))


def delete(uri: str) -> None:
    """Remove one file or object, if it is there; raises ArchiveError."""
    with mendable(uri):
        if is_remote(uri):
            bucket, key = s3.bucket_and_key(uri)
            s3.request("delete_object", Bucket=bucket, Key=key)
        else:
            persist(lambda: Path(path_of(uri)).unlink(missing_ok=True), attempts=1)


def _names_s3(uri: str) -> Iterator[str]:
    bucket, key = s3.bucket_and_key(uri)
    below = s3.folder(key)
    for page in s3.pages(bucket, below, "/"):
        for entry in page.get("CommonPrefixes", ()):
            yield entry["Prefix"].removeprefix(below).rstrip("/")
        for entry in page.get("Contents", ()):
            if entry["Key"] != below:  # the marker that some programs leave for a folder
                yield entry["Key"].removeprefix(below)


def _read_locally(path: Path, max_bytes: int) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # of a pipe or a device there may be no end
        raise FetchError("fetch_failed", "not a regular file", "give a file")
    if status.st_size > max_bytes:
        raise FetchError("too_large", f"{status.st_size} bytes, more than {max_bytes}")
    with path.open("rb") as file:
        return file.read(max_bytes)


def _write_locally(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(_WRITING + secrets.token_hex(8))
    try:
        with writing.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)
