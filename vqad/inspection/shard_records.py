"""Records of what shards contain: a shard whose images all have verdicts is not opened again.

A record counts a shard's images, and its other members by suffix. It is written once the shard was
read to its end, and counts only for the shard's ETag and for the glob of that run.
"""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from vqad.images.listing import Listed
from vqad.storage import errors, files, output_layout

_NUM_READERS: Final = 16  # threads
_LARGEST_RECORD_BYTES: Final = 2**16  # one has about 200 bytes
_MOST_SUFFIXES: Final = 50  # of a record


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """The numbers of one shard."""

    images: dict[str, int]  # by the ETag under which they were inspected
    left_out: Counter[str] = field(default_factory=Counter)  # other members, by suffix


def write(output: str, shard: Listed, record: ShardRecord, *, include: str | None) -> None:
    """Write a shard's record; raises ArchiveError."""
    content = {
        "shard": shard.image,
        "etag": shard.etag,
        "include": include,
        "images": record.images,
        "left_out": dict(record.left_out.most_common(_MOST_SUFFIXES)),
    }
    data = (json.dumps(content) + "\n").encode()
    files.write_bytes(output_layout.shard_record(output, shard.image), data)


def read(output: str, shards: Sequence[Listed], *, include: str | None) -> dict[str, ShardRecord]:
    """The records of those shards that have one, by the shard's URI; raises ArchiveError."""
    folder = output_layout.shard_records(output)
    if not shards or not files.exists(folder):
        return {}
    # One listing in place of a request for each shard, most of which have none in a first run.
    names = set(files.list_names(folder))
    named = [each for each in shards if output_layout.shard_record_name(each.image) in names]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        records = list(pool.map(lambda shard: _read(output, shard, include), named))
    found = zip(named, records, strict=True)
    return {shard.image: record for shard, record in found if record is not None}


def _read(output: str, shard: Listed, include: str | None) -> ShardRecord | None:
    try:
        uri = output_layout.shard_record(output, shard.image)
        found = json.loads(files.read_bytes(uri, max_bytes=_LARGEST_RECORD_BYTES))
        stated = (found["shard"], found["etag"], found["include"])
        if stated == (shard.image, shard.etag, include):
            return ShardRecord(
                images={str(etag): int(number) for etag, number in found["images"].items()},
                left_out=Counter(
                    {str(each): int(number) for each, number in found.get("left_out", {}).items()}
                ),
            )
    except (errors.FetchError, ValueError, KeyError, TypeError, AttributeError):
        pass  # without a record the shard is read again
    return None
