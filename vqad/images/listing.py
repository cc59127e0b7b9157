"""What an archive holds: image files, and the shards (tar, Parquet) that hold images in turn.

A local folder is walked and a prefix is listed page by page; only what is kept takes memory.
"""

import fnmatch
import heapq
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from posixpath import splitext
from typing import Any, Final

from vqad.images.headers import EXTENSIONS
from vqad.storage import s3
from vqad.storage.errors import ArchiveError
from vqad.storage.retries import ATTEMPTS_WATCHED, mendable, persist
from vqad.storage.uris import absolute, encoded, is_remote, path_of, relative

# File name endings, in lower case, of files that hold many images.
TARS: Final = (".tar", ".tar.gz", ".tgz")
SHARDS: Final = (*TARS, ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One image or shard, as its store lists it."""

    image: str  # absolute URI
    size_bytes: int
    etag: str  # changes when the content does
    modified_at: datetime | None  # UTC; None where a manifest names what is not there


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
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be at least 0, got {limit}")
    found = _narrowed(uri, is_image, include, modified_since)
    if limit is not None:
        return heapq.nsmallest(limit, found, key=lambda each: each.image)
    return sorted(found, key=lambda each: each.image)


def list_archive(
    uri: str, *, include: str | None = None, modified_since: datetime | None = None
) -> list[Listed]:
    """As ``list_images``, and the shards among them in which ``include`` may match a member."""
    found = _narrowed(uri, lambda name: is_image(name) or is_shard(name), include, modified_since)
    return sorted(found, key=lambda each: each.image)


def is_shard(name: str) -> bool:
    """Whether a file of this name, path or URI holds images in turn."""
    return name.lower().endswith(SHARDS)


def is_passed_over(path: str) -> bool:
    """Whether a path below an archive is hidden, or of a mask in ``ground_truth``."""
    return any(name.startswith(".") or name == "ground_truth" for name in path.split("/"))


def is_included(path: str, include: str | None) -> bool:
    """Whether the glob matches the path below the archive."""
    return include is None or re.match(fnmatch.translate(include), path) is not None


def is_image(name: str) -> bool:
    """Whether a file of this name is listed as an image, though it may be none."""
    return splitext(name)[1].lower() in EXTENSIONS


Wanted = Callable[[str], bool]  # by name


def _narrowed(
    uri: str, wanted: Wanted, include: str | None, modified_since: datetime | None
) -> Iterator[Listed]:
    if modified_since is not None and modified_since.tzinfo is None:
        raise ValueError(f"modified_since must have a time zone, got {modified_since}")
    root = absolute(uri)
    with mendable(uri):
        for each in _listed_s3(root, wanted) if is_remote(root) else _listed_locally(root, wanted):
            if is_as_new(each, modified_since) and may_match(relative(each.image, root), include):
                yield each


def is_as_new(listed: Listed, modified_since: datetime | None) -> bool:
    """Whether it was modified since then, as far as is known."""
    return modified_since is None or not listed.modified_at or listed.modified_at >= modified_since


def may_match(path: str, include: str | None) -> bool:
    """Whether the glob matches the path of an image, or may match a member of a shard there."""
    if include is None or is_included(path, include):
        return True
    if not is_shard(path):
        return False
    # Members are matched when they are read; a shard elsewhere need not be opened for that.
    literal, below = re.split(r"[*?\[]", include, maxsplit=1)[0], f"{path}/"
    return below.startswith(literal) or literal.startswith(below)


def _listed_locally(root: str, wanted: Wanted) -> Iterator[Listed]:
    path = path_of(root)
    status = persist(lambda: Path(path).stat(), attempts=ATTEMPTS_WATCHED)
    if stat.S_ISDIR(status.st_mode):
        yield from _walked(path, wanted, frozenset())
    elif wanted(path):
        yield of_local(path, status)
    else:
        raise ArchiveError(f"{root}: neither a folder nor an image; give a folder of images")


def _walked(folder: str, wanted: Wanted, above: frozenset[tuple[int, int]]) -> Iterator[Listed]:
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
        if is_passed_over(entry.name):
            continue
        if _is_folder(entry):
            yield from _walked(entry.path, wanted, above | {itself})
        elif wanted(entry.name) and (status := _status(entry)):
            yield of_local(entry.path, status)


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


def of_local(path: str, status: os.stat_result) -> Listed:
    """A local file as it is listed."""
    return Listed(
        image="file://" + encoded(path),
        size_bytes=status.st_size,
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _listed_s3(root: str, wanted: Wanted) -> Iterator[Listed]:
    bucket, key = s3.bucket_and_key(root)
    if wanted(key) and (found := s3.head(bucket, key)):
        yield object_of(bucket, {"Key": key, "Size": found["ContentLength"], **found})
        return
    below, num_keys = s3.folder(key), 0
    for page in s3.pages(bucket, below):
        for entry in page.get("Contents", ()):
            num_keys += 1
            path = entry["Key"].removeprefix(below)
            if wanted(path) and not is_passed_over(path):
                yield object_of(bucket, entry)
    if key and not num_keys:
        raise ArchiveError(f"{root}: no objects below it; check bucket and prefix")


def object_of(bucket: str, entry: dict[str, Any]) -> Listed:
    """An object as it is listed, of what the store says of it."""
    return Listed(
        image=f"s3://{bucket}/{encoded(entry['Key'])}",
        size_bytes=entry["Size"],
        etag=entry.get("ETag", "").strip('"'),
        modified_at=entry["LastModified"].astimezone(UTC),
    )
