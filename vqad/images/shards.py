"""Shards: tar archives, plain or gzipped, and Parquet files that contain many images.

A shard is read once from beginning to end, member by member, and nothing of it is written to
disk. The URI of a member is ``SHARD#NAME``. If a shard has several members of one name, the second
gets the suffix ``;2``, the third ``;3``, and so on.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

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

# Linux's longest path. A longer name is shortened in the member's URI, and the member not read.
_LONGEST_NAME_BYTES: Final = 4096
_SHORTENED_CHARACTERS: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One image of a shard; call ``read`` before the next member is asked for."""

    image: str  # URI
    name: str
    size_bytes: int
    read: Callable[[], bytes]
    error: str = ""  # one of tables.ERRORS if the member must not be read
    error_detail: str = ""


def members(
    shard: str, *, size_bytes: int, etag: str = "", leave_out: Callable[[str], None] | None = None
) -> Iterator[Member]:
    """All images of a shard in their order; ``leave_out`` gets the names of a tar's other files.

    Raises FetchError where the shard is broken, after all members that come before that place.
    """
    if not size_bytes:
        raise ShardError("empty", "no bytes")
    seen: Counter[bytes] = Counter()
    read_tar = partial(tar_members.read, leave_out=leave_out)
    read_contents = read_tar if shard.lower().endswith(TARS) else parquet_rows.read
    with opened(shard, size_bytes=size_bytes, etag=etag) as file:
        for full_name, member_bytes, read, refusal in read_contents(file):
            name, digest = _shortened(full_name)
            seen[digest] += 1
            number = "" if seen[digest] == 1 else f";{seen[digest]}"
            error, detail = _refusal(full_name, member_bytes, refusal)
            yield Member(
                image=f"{shard}#{encoded(name)}{number}",
                name=name,
                size_bytes=member_bytes,
                read=read,
                error=error,
                error_detail=detail,
            )


def _shortened(name: str) -> tuple[str, bytes]:
    """A name that fits into a table, and a digest of the full name.

    Names are counted by their digests: the names of a shard could fill the memory.
    """
    name_bytes = name.encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(name_bytes).digest()[:16]
    if len(name_bytes) > _LONGEST_NAME_BYTES:
        name = f"{name[:_SHORTENED_CHARACTERS]}...{digest.hex()}"
    return name, digest


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
        return parquet_rows.schema_in(file)


def _refusal(name: str, size_bytes: int, refusal: str) -> tuple[str, str]:
    """Error word and detail of a member that must not be read, else two empty strings."""
    if refusal:
        return "unsupported", refusal
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME_BYTES:
        return "unsupported", f"a name of more than {_LONGEST_NAME_BYTES} bytes"
    if leads_out(name):
        return "unsupported", "the name leads out of the archive"
    if size_bytes > MAX_BYTES:
        return "too_large", f"{size_bytes} bytes, more than {MAX_BYTES}"
    return "", ""
