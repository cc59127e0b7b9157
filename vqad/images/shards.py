"""Shards: tar archives, plain or gzipped, and Parquet files that contain many images.

A shard is read once from beginning to end, member by member, and nothing of it is written to
disk. The URI of a member is ``SHARD#NAME``. If a shard has several members of one name, the second
gets the suffix ``;2``, the third ``;3``, and so on.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vqad.images import parquet_rows, tar_members
from vqad.images.decoding import MAX_BYTES
from vqad.images.listing import TARS
from vqad.images.shard_contents import ShardError, leads_out
from vqad.storage import s3
from vqad.storage.errors import FetchError
from vqad.storage.random_access import opened
from vqad.storage.retries import with_retries
from vqad.storage.uris import encoded, is_remote, path_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One image of a shard; call ``read`` before the next member is asked for."""

    image: str  # URI
    name: str
    size_bytes: int
    read: Callable[[], bytes]
    error: str = ""  # one of tables.ERRORS if the member must not be read
    error_detail: str = ""


def members(shard: str, *, size_bytes: int, etag: str = "") -> Iterator[Member]:
    """All images of a shard in their order.

    Raises FetchError where the shard is broken, after all members that come before that place.
    """
    if not size_bytes:
        raise ShardError("empty", "no bytes")
    seen: Counter[str] = Counter()
    read_contents = tar_members.read if shard.lower().endswith(TARS) else parquet_rows.read
    with opened(shard, size_bytes=size_bytes, etag=etag) as file:
        for name, member_bytes, read, refusal in read_contents(file):
            seen[name] += 1
            number = "" if seen[name] == 1 else f";{seen[name]}"
            error, detail = _refusal(name, member_bytes, refusal)
            yield Member(
                image=f"{shard}#{encoded(name)}{number}",
                name=name,
                size_bytes=member_bytes,
                read=read,
                error=error,
                error_detail=detail,
            )


def read_member(image: str, *, size_bytes: int) -> bytes:
    """The bytes of one member, found by reading its shard up to it; raises FetchError."""
    for each in members(image.partition("#")[0], size_bytes=size_bytes):
        if each.image == image:
            return each.read()
    raise FetchError("missing", "no such member", "check the name")


def size_of(shard: str) -> int:
    """Size of a shard in bytes; raises FetchError."""
    if is_remote(shard):
        found = s3.head(*s3.bucket_and_key(shard))
        if found is None:
            raise FetchError("missing", "no such object", "check the name")
        return int(found["ContentLength"])
    return with_retries(lambda: Path(path_of(shard)).stat().st_size)


def schema_of(shard: str) -> pa.Schema:
    """The columns of a Parquet file; raises FetchError."""
    size_bytes = size_of(shard)
    if not size_bytes:
        raise ShardError("empty", "no bytes")
    with opened(shard, size_bytes=size_bytes) as file:
        return parquet_rows.open_table(file).schema_arrow


def _refusal(name: str, size_bytes: int, refusal: str) -> tuple[str, str]:
    """Error word and detail of a member that must not be read, else two empty strings."""
    if refusal:
        return "unsupported", refusal
    if leads_out(name):
        return "unsupported", "the name leads out of the archive"
    if size_bytes > MAX_BYTES:
        return "too_large", f"{size_bytes} bytes, more than {MAX_BYTES}"
    return "", ""
