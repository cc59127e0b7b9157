"""Read, write, list and delete files in local folders and under ``s3://bucket/prefix``."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path
from posixpath import splitext
from typing import Final

from vqad.storage import s3
from vqad.storage.errors import ArchiveError, FetchError
from vqad.storage.retries import ATTEMPTS, ATTEMPTS_INTERACTIVE, errors_at, with_retries
from vqad.storage.uris import is_remote, path_of

# Prefix of a file that is still being written. Listings skip it; it is renamed when complete.
WRITING: Final = ".writing-"

# A web server in front of a bucket passes on what the object says, and a browser goes by that.
_CONTENT_TYPES: Final = {
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".webp": "image/webp",
}


def read_bytes(uri: str, *, max_bytes: int) -> bytes:
    """All bytes of a file or object, with retries; raises FetchError."""
    if is_remote(uri):
        return s3.read(*s3.bucket_and_key(uri), max_bytes=max_bytes)
    return with_retries(lambda: _read_locally(Path(path_of(uri)), max_bytes))


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file or object atomically; raises ArchiveError."""
    with errors_at(uri):
        if is_remote(uri):
            bucket, key = s3.bucket_and_key(uri)
            put = {"Bucket": bucket, "Key": key, "Body": data, "ContentType": _content_type(key)}
            s3.request("put_object", attempts=ATTEMPTS, **put)
        else:
            with_retries(lambda: _write_locally(Path(path_of(uri)), BytesIO(data)))


def write_file(uri: str, file: BufferedIOBase) -> None:
    """Write all bytes of an open file as ``write_bytes`` does, without having them in memory."""
    with errors_at(uri):
        if is_remote(uri):
            bucket, key = s3.bucket_and_key(uri)
            s3.put_file(bucket, key, file, content_type=_content_type(key))
        else:
            with_retries(lambda: _write_locally(Path(path_of(uri)), _from_start(file)))


def _from_start(file: BufferedIOBase) -> BufferedIOBase:
    file.seek(0)
    return file


def _content_type(key: str) -> str:
    return _CONTENT_TYPES.get(splitext(key)[1], "application/octet-stream")


def exists(uri: str) -> bool:
    """True if a file, folder, object or prefix of this name exists; raises ArchiveError."""
    with errors_at(uri):
        if not is_remote(uri):
            return with_retries(lambda: Path(path_of(uri)).exists(), attempts=ATTEMPTS_INTERACTIVE)
        bucket, key = s3.bucket_and_key(uri)
        if key and s3.head(bucket, key):
            return True
        first = next(s3.pages(bucket, s3.folder(key), "/"))
    return not key or first.get("KeyCount", 0) > 0


def list_names(uri: str) -> list[str]:
    """Sorted names of the children of a folder or prefix; raises ArchiveError if it is missing."""
    return sorted(list_children(uri))


def list_children(uri: str, *, most_pages: int | None = None) -> dict[str, bool]:
    """The same names; True for folders and prefixes, False for files and objects.

    On object storage at most ``most_pages`` of up to 1,000 names each are listed.
    """
    with errors_at(uri):
        if is_remote(uri):
            found = dict(_children_s3(uri, most_pages))
        else:
            found = with_retries(lambda: _children_locally(path_of(uri)))
    if is_remote(uri) and not found:
        raise ArchiveError(f"{uri}: no objects below it; check bucket and prefix")
    return {name: is_folder for name, is_folder in found.items() if not name.startswith(WRITING)}


def delete(uri: str) -> None:
    """Delete one file or object if it exists; raises ArchiveError."""
    with errors_at(uri):
        if is_remote(uri):
            bucket, key = s3.bucket_and_key(uri)
            s3.request("delete_object", Bucket=bucket, Key=key)
        else:
            with_retries(lambda: Path(path_of(uri)).unlink(missing_ok=True), attempts=1)


def _children_locally(path: str) -> dict[str, bool]:
    with os.scandir(path) as entries:
        # Path.is_dir also answers for a link that leads to itself.
        return {
            entry.name: Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()
            for entry in entries
        }


def _children_s3(uri: str, most_pages: int | None) -> Iterator[tuple[str, bool]]:
    bucket, key = s3.bucket_and_key(uri)
    below = s3.folder(key)
    for page in islice(s3.pages(bucket, below, "/"), most_pages):
        for entry in page.get("CommonPrefixes", ()):
            yield entry["Prefix"].removeprefix(below).rstrip("/"), True
        for entry in page.get("Contents", ()):
            if entry["Key"] != below:  # an empty object that some programs create for a folder
                yield entry["Key"].removeprefix(below), False


def check_regular(status: os.stat_result) -> None:
    """Raise FetchError for a pipe or a device: opening or reading it may never end."""
    if not stat.S_ISREG(status.st_mode):
        raise FetchError("fetch_failed", "not a regular file", "give a file")


def _read_locally(path: Path, max_bytes: int) -> bytes:
    status = path.stat()
    check_regular(status)
    if status.st_size > max_bytes:
        raise FetchError("too_large", f"{status.st_size} bytes, more than {max_bytes}")
    with path.open("rb") as file:
        return file.read(max_bytes)


def _write_locally(path: Path, source: BufferedIOBase) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(WRITING + secrets.token_hex(8))
    try:
        with writing.open("xb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)
