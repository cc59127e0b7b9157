"""The files of images that were inspected, read again if they are still as they were then.

A row needs the columns image and source_etag; an empty tag fits whatever the file is now.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vqad.images import decoding, listing, shards
from vqad.storage import files, s3
from vqad.storage.errors import FetchError
from vqad.storage.uris import is_remote, path_of

Row = dict[str, Any]

CHANGED = "the image file has changed since it was inspected"
_GONE = "the image file is gone"


def read(rows: Sequence[Row]) -> Iterator[tuple[Row, bytes, str]]:
    """Yield each row with the bytes of its image, or with no bytes and the reason.

    One image is in memory at a time. The members of a shard are read in one pass.
    """
    for shard, members in _by_shard(rows).items():
        if shard:
            yield from _read_members(shard, members)
        else:
            for row in members:
                try:
                    yield row, _read_file(row), ""
                except FetchError as failure:
                    yield row, b"", _reason(failure)


def _by_shard(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by the shard that their image is in, "" for files."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(shard_of(row), []).append(row)
    return found


def shard_of(row: Row) -> str:
    """The URI of the shard that a row's image is a member of; "" for a file."""
    shard, separator, _ = row["image"].partition("#")
    return shard if separator else ""


def _reason(failure: FetchError) -> str:
    if failure.detail == CHANGED:
        return CHANGED
    return _GONE if failure.error == "missing" else f"the image file cannot be read: {failure}"


def _changed() -> FetchError:
    return FetchError("fetch_failed", CHANGED)


def _read_file(row: Row) -> bytes:
    image = row["image"]
    if is_remote(image):
        place = s3.bucket_and_key(image)
        data, etag = s3.read_tagged(*place, max_bytes=decoding.MAX_BYTES)
    else:
        data = files.read_bytes(image, max_bytes=decoding.MAX_BYTES)
        etag = _local_etag(image)
    if row["source_etag"] not in ("", etag.strip('"')):
        raise _changed()
    return data


def _local_etag(uri: str) -> str:
    path = path_of(uri)
    try:
        return listing.of_local(path, Path(path).stat()).etag
    except OSError:
        return ""  # gone since it was read


def _read_members(shard: str, rows: Sequence[Row]) -> Iterator[tuple[Row, bytes, str]]:
    waiting = {row["image"]: row for row in rows}
    try:
        size_bytes, etag = _state_of(shard)
        if any(row["source_etag"] not in ("", etag) for row in rows):
            raise _changed()
        at_s3 = etag if is_remote(shard) else ""
        for member in shards.members(shard, size_bytes=size_bytes, etag=at_s3):
            if member.image in waiting:
                data = b"" if member.error else member.read()
                yield waiting.pop(member.image), data, member.error_detail
            if not waiting:
                return
        reason = _GONE
    except FetchError as failure:
        reason = _reason(failure)
    for row in waiting.values():
        yield row, b"", reason


def _state_of(shard: str) -> tuple[int, str]:
    """Size and ETag of a shard; raises FetchError."""
    if not is_remote(shard):
        return shards.size_of(shard), _local_etag(shard)
    found = s3.head(*s3.bucket_and_key(shard))
    if found is None:
        raise FetchError("missing", "no such object")
    return int(found["ContentLength"]), str(found.get("ETag", "")).strip('"')
