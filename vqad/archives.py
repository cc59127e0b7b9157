"""Listing, reading and writing, in local folders and under ``s3://bucket/prefix``."""

import fnmatch
import heapq
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from posixpath import splitext
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from vqad import s3
from vqad.failures import ATTEMPTS_WATCHED, ArchiveError, FetchError, persist
from vqad.headers import EXTENSIONS
from vqad.uris import absolute, encoded, is_remote, join, path_of, relative

# A file that is being written: hidden from listings, replaced by its name when it is whole.
_WRITING: Final = ".writing-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One image, as its store lists it."""

    image: str  # absolute URI
    size_bytes: int
    etag: str  # changes when the content does
    modified_at: datetime  # UTC


def filesystem(uri: str) -> tuple[Any, str]:
    """An fsspec file system and what it calls a place: an absolute path, or bucket/key."""
    if is_remote(uri):
        with _mendable(uri):
            return s3.client(), path_of(uri)
    return LocalFileSystem(skip_instance_cache=True), path_of(uri)


def list_images(
    uri: str,
    *,
    include: str | None = None,
    modified_since: datetime | None = None,
    limit: int | None = None,
) -> list[Listed]:
    """All images below a folder or prefix, or the one that the URI names, sorted by URI.

    Hidden files and what lies in a folder ``ground_truth`` are never listed. ``include`` is a
    glob on the whole path below ``uri``, in which ``*`` also matches slashes. Raises
    ArchiveError where there is no such place.
    """
    if modified_since is not None and modified_since.tzinfo is None:
        raise ValueError(f"modified_since must have a time zone, got {modified_since}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be at least 0, got {limit}")
    wanted = re.compile(fnmatch.translate(include or "*"))
    root = absolute(uri)
    with _mendable(uri):
        found = (
            each
            for each in (_listed_s3(root) if is_remote(root) else _listed_locally(root))
            if (modified_since is None or each.modified_at >= modified_since)
            and (include is None or wanted.match(relative(each.image, root)))
        )
        if limit is not None:
            return heapq.nsmallest(limit, found, key=lambda each: each.image)
        return sorted(found, key=lambda each: each.image)


def read_bytes(uri: str, *, max_bytes: int) -> bytes:
    """All bytes of a file or object, trying again what may pass; raises FetchError."""
    if is_remote(uri):
        return s3.read(*_bucket_and_key(uri), max_bytes=max_bytes)
    return persist(lambda: _read_locally(Path(path_of(uri)), max_bytes))


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file or object, whole or not at all; raises ArchiveError."""
    with _mendable(uri):
        if is_remote(uri):
            bucket, key = _bucket_and_key(uri)
            s3.request("put_object", Bucket=bucket, Key=key, Body=data)
        else:
            persist(lambda: _write_locally(Path(path_of(uri)), data), attempts=ATTEMPTS_WATCHED)


def exists(uri: str) -> bool:
    """Whether there is such a file, folder, object or prefix; raises ArchiveError."""
    with _mendable(uri):
        if not is_remote(uri):
            return persist(lambda: Path(path_of(uri)).exists(), attempts=ATTEMPTS_WATCHED)
        bucket, key = _bucket_and_key(uri)
        if key and _head(bucket, key):
            return True
        first = next(s3.pages(bucket, _folder(key), "/"))
    return not key or first.get("KeyCount", 0) > 0


def list_names(uri: str) -> list[str]:
    """Names of the children of a folder or prefix, sorted; raises ArchiveError if there is none."""
    with _mendable(uri):
        if is_remote(uri):
            names = set(_names_s3(uri))
        else:
            names = persist(lambda: {child.name for child in Path(path_of(uri)).iterdir()})
    if is_remote(uri) and not names:
        raise ArchiveError(f"{uri}: no objects below it; check bucket and prefix")
    return sorted(name for name in names if not name.startswith(_WRITING))


def delete(uri: str) -> None:
    """Remove one file or object, if it is there; raises ArchiveError."""
    with _mendable(uri):
        if is_remote(uri):
            bucket, key = _bucket_and_key(uri)
            s3.request("delete_object", Bucket=bucket, Key=key)
        else:
            persist(lambda: Path(path_of(uri)).unlink(missing_ok=True), attempts=1)


@contextmanager
def _mendable(uri: str) -> Iterator[None]:
    """Say of what failed where it was and what would do."""
    try:
        yield
    except FetchError as failure:
        raise ArchiveError(f"{uri}: {failure.detail}; {failure.remedy}") from None


def _is_image(name: str) -> bool:
    return splitext(name)[1].lower() in EXTENSIONS


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name == "ground_truth"


def _listed_locally(root: str) -> Iterator[Listed]:
    path = path_of(root)
    status = persist(lambda: Path(path).stat(), attempts=ATTEMPTS_WATCHED)
    if stat.S_ISDIR(status.st_mode):
        yield from _walked(path, frozenset())
    elif _is_image(path):
        yield _local(path, status)
    else:
        raise ArchiveError(f"{root}: neither a folder nor an image; give a folder of images")


def _walked(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[Listed]:
    """Links are followed, but not back to a folder that they lie in."""
    try:
        found = Path(folder).stat()
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise ArchiveError(f"{folder}: {error.strerror}; check its permissions") from None
    itself = (found.st_dev, found.st_ino)
    if itself in above:
        return
    for entry in entries:
        if _is_passed_over(entry.name):
            continue
        if _is_folder(entry):
            yield from _walked(entry.path, above | {itself})
        elif _is_image(entry.name) and (status := _status(entry)):
            yield _local(entry.path, status)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what is neither a file nor a link. A link to nothing will be found missing."""
    for follows in (True, False):
        with suppress(OSError):
            status = entry.stat(follow_symlinks=follows)
            kind = stat.S_IFMT(status.st_mode)
            return status if kind in (stat.S_IFREG, stat.S_IFLNK) else None
    return None


def _local(path: str, status: os.stat_result) -> Listed:
    return Listed(
        image="file://" + encoded(path),
        size_bytes=status.st_size,
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _listed_s3(root: str) -> Iterator[Listed]:
    bucket, key = _bucket_and_key(root)
    if _is_image(key) and (found := _head(bucket, key)):
        yield _object(bucket, {"Key": key, "Size": found["ContentLength"], **found})
        return
    below, num_keys = _folder(key), 0
    for page in s3.pages(bucket, below):
        for entry in page.get("Contents", ()):
            num_keys += 1
            names = entry["Key"].removeprefix(below).split("/")
            if _is_image(names[-1]) and not any(map(_is_passed_over, names)):
                yield _object(bucket, entry)
    if key and not num_keys:
        raise ArchiveError(f"{root}: no objects below it; check bucket and prefix")


def _object(bucket: str, entry: dict[str, Any]) -> Listed:
    return Listed(
        image=f"s3://{bucket}/{encoded(entry['Key'])}",
        size_bytes=entry["Size"],
        etag=entry.get("ETag", "").strip('"'),
        modified_at=entry["LastModified"].astimezone(UTC),
    )


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = path_of(uri).partition("/")
    return bucket, key


def _folder(key: str) -> str:
    return f"{key}/" if key else ""


def _head(bucket: str, key: str) -> dict[str, Any] | None:
    """What the store says of an object; None where there is none."""
    try:
        answer: dict[str, Any] = s3.request("head_object", Bucket=bucket, Key=key)
    except FetchError as failure:
        if failure.error == "missing":
            return None
        raise
    return answer


def _names_s3(uri: str) -> Iterator[str]:
    bucket, key = _bucket_and_key(uri)
    below = _folder(key)
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


__all__ = [
    "ArchiveError",
    "FetchError",
    "Listed",
    "absolute",
    "delete",
    "exists",
    "filesystem",
    "is_remote",
    "join",
    "list_images",
    "list_names",
    "read_bytes",
    "relative",
    "write_bytes",
]
