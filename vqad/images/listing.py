"""List the image files and shards (tar, Parquet) of an archive.

A local folder is walked and a prefix is listed page by page. Only matching entries stay in memory.
"""

import fnmatch
import heapq
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from posixpath import splitext
from typing import Any, Final

from vqad.images.headers import EXTENSIONS
from vqad.storage import s3
from vqad.storage.errors import ArchiveError
from vqad.storage.retries import ATTEMPTS_INTERACTIVE, errors_at, with_retries
from vqad.storage.uris import absolute, encoded, is_remote, path_of, relative

# File name endings, in lower case, of files that contain many images.
TARS: Final = (".tar", ".tar.gz", ".tgz")
SHARDS: Final = (*TARS, ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One image or shard, as storage lists it."""

    image: str  # absolute URI
    size_bytes: int
    etag: str  # changes when the content does
    modified_at: datetime | None  # UTC; None if a manifest names a file that does not exist


def list_images(
    uri: str,
    *,
    include: str | None = None,
    modified_since: datetime | None = None,
    limit: int | None = None,
) -> list[Listed]:
    """All images below a folder or prefix, or the one image that the URI names, sorted by URI.

    Hidden files and files in a folder ``ground_truth`` are never listed. ``include`` is a glob
    for the whole path below ``uri``, in which ``*`` also matches slashes. Raises ArchiveError if
    there is no such folder, prefix or image.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be at least 0, got {limit}")
    found = _matching(uri, is_image, include, modified_since)
    if limit is not None:
        return heapq.nsmallest(limit, found, key=lambda each: each.image)
    return sorted(found, key=lambda each: each.image)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The images and shards of an archive, and how many other files it contains."""

    listed: list[Listed]  # sorted by URI
    left_out: Counter[str]  # files of other suffixes, by suffix in lower case


def list_archive(
    uri: str,
    *,
    include: str | None = None,
    modified_since: datetime | None = None,
    outside: Collection[str] = (),
) -> Archive:
    """Like ``list_images``, and also the shards in which ``include`` may match a member.

    What is below the paths or URIs in ``outside`` is neither listed nor counted.
    """
    left_out: Counter[str] = Counter()
    found = _matching(uri, _is_image_or_shard, include, modified_since, left_out, outside)
    listed = sorted(found, key=lambda each: each.image)
    # Sorted, so that the order of a folder's entries doesn't show: most_common keeps it for ties.
    return Archive(listed=listed, left_out=Counter(dict(sorted(left_out.items()))))


def _is_image_or_shard(name: str) -> bool:
    return is_image(name) or is_shard(name)


def is_shard(name: str) -> bool:
    """True if a file of this name, path or URI contains many images."""
    return name.lower().endswith(SHARDS)


def is_excluded(path: str) -> bool:
    """True for a hidden file or folder, and for a mask below ``ground_truth``."""
    return any(name.startswith(".") or name == "ground_truth" for name in path.split("/"))


def is_included(path: str, include: str | None) -> bool:
    """True if the glob matches the path below the archive, or if there is no glob."""
    return include is None or re.match(fnmatch.translate(include), path) is not None


def is_image(name: str) -> bool:
    """True if a file of this name is listed as an image; its content is not looked at."""
    return splitext(name)[1].lower() in EXTENSIONS


def suffix_of(path: str) -> str:
    """The suffix by which a file that is left out is counted, "" if it has none."""
    return splitext(path)[1].lower()


NameFilter = Callable[[str], bool]


def _matching(
    uri: str,
    wanted: NameFilter,
    include: str | None,
    modified_since: datetime | None,
    left_out: Counter[str] | None = None,
    outside: Collection[str] = (),
) -> Iterator[Listed]:
    """The wanted files that match; the others that match are counted in ``left_out``."""
    if modified_since is not None and modified_since.tzinfo is None:
        raise ValueError(f"modified_since must have a time zone, got {modified_since}")
    root, folders = absolute(uri), [path_of(each) for each in outside]
    with errors_at(uri):
        for each in _list_s3(root, wanted) if is_remote(root) else _list_local(root, wanted):
            path = relative(each.image, root)
            if not is_as_new(each, modified_since) or is_in(each.image, folders):
                continue
            if not wanted(path):
                if left_out is not None and is_included(path, include):
                    left_out[suffix_of(path)] += 1
            elif may_match(path, include):
                yield each


def is_in(image: str, folders: Collection[str]) -> bool:
    """True if an image is one of these decoded paths, or below one of them."""
    path = path_of(image) if folders else ""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def is_as_new(listed: Listed, modified_since: datetime | None) -> bool:
    """True if the file was modified at or after this time, or if its time is unknown."""
    return modified_since is None or not listed.modified_at or listed.modified_at >= modified_since


def may_match(path: str, include: str | None) -> bool:
    """True if the glob matches this path, or could match a member of the shard at this path."""
    if include is None or is_included(path, include):
        return True
    if not is_shard(path):
        return False
    # Members are matched when they are read. A shard needs no reading if no member can match: its
    # path and the part of the glob before the first wildcard must agree as far as both go.
    literal, below = re.split(r"[*?\[]", include, maxsplit=1)[0], f"{path}/"
    return below.startswith(literal) or literal.startswith(below)


def _list_local(root: str, wanted: NameFilter) -> Iterator[Listed]:
    path = path_of(root)
    status = with_retries(lambda: Path(path).stat(), attempts=ATTEMPTS_INTERACTIVE)
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(path, frozenset())
    elif wanted(path):
        yield of_local(path, status)
    else:
        raise ArchiveError(f"{root}: neither a folder nor an image; give a folder of images")


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[Listed]:
    """Follow links, except to a folder that contains them: ``above`` has (device, inode) pairs."""
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
        if is_excluded(entry.name):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, above | {itself})
        elif status := _status(entry):
            yield of_local(entry.path, status)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None if the entry is neither a file nor a link. Reading a broken link gives ``missing``."""
    for follows in (True, False):
        with suppress(OSError):
            status = entry.stat(follow_symlinks=follows)
            kind = stat.S_IFMT(status.st_mode)
            return status if kind in (stat.S_IFREG, stat.S_IFLNK) else None
    return None


def of_local(path: str, status: os.stat_result) -> Listed:
    """The listing entry of a local file."""
    return Listed(
        image="file://" + encoded(path),
        size_bytes=status.st_size,
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _list_s3(root: str, wanted: NameFilter) -> Iterator[Listed]:
    bucket, key = s3.bucket_and_key(root)
    if wanted(key) and (found := s3.head(bucket, key)):
        yield object_of(bucket, {"Key": key, "Size": found["ContentLength"], **found})
        return
    below, num_keys = s3.folder(key), 0
    for page in s3.pages(bucket, below):
        for entry in page.get("Contents", ()):
            num_keys += 1
            path = entry["Key"].removeprefix(below)
            if not is_excluded(path) and not path.endswith("/"):  # "/" ends a folder's own object
                yield object_of(bucket, entry)
    if key and not num_keys:
        raise ArchiveError(f"{root}: no objects below it; check bucket and prefix")


def object_of(bucket: str, entry: dict[str, Any]) -> Listed:
    """The listing entry of an object, made from its entry in a response of S3."""
    return Listed(
        image=f"s3://{bucket}/{encoded(entry['Key'])}",
        size_bytes=entry["Size"],
        etag=entry.get("ETag", "").strip('"'),
        modified_at=entry["LastModified"].astimezone(UTC),
    )
