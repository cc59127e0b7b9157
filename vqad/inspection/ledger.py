"""What an output holds already: for every image the part with its verdict, and why it was made."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vqad.inspection import sink
from vqad.storage import errors, files, uris

NUM_READERS: Final = 16  # threads
_COLUMNS: Final = ["image", "error", "model_version", "source_etag", "inspected_at"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """Of one image: where its verdict is, and what it was made from."""

    part: str  # CATEGORY FOLDER/NAME
    etag: str
    model_version: str
    error: str
    inspected_at: datetime


@dataclass(kw_only=True)
class Ledger:
    """All verdicts of an output."""

    done: dict[str, Done] = field(default_factory=dict)  # by image
    parts: set[str] = field(default_factory=set)
    # What a run that lost its lease may have left: second verdicts, by part. The latest counts.
    superseded: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, image: str, row: Done) -> None:
        """Add one row; of two for one image the older is superseded."""
        other = self.done.get(image)
        if other is not None:
            older, row = sorted((other, row), key=lambda each: (each.inspected_at, each.part))
            self.superseded.setdefault(older.part, []).append(image)
        self.done[image] = row


def read(output: str) -> Ledger:
    """Read every verdicts part; raises ArchiveError."""
    ledger = Ledger(parts=sink.parts(output, "verdicts"))
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for part, rows in pool.map(lambda part: (part, _read(output, part)), sorted(ledger.parts)):
            for image, error, version, etag, at in _values(rows):
                done = Done(
                    part=part,
                    etag=etag,
                    model_version=sys.intern(version),  # one for many rows
                    error=error,
                    inspected_at=at,
                )
                ledger.enter(image, done)
    return ledger


def _read(output: str, part: str) -> pa.Table:
    uri = sink.part_uri(output, "verdicts", part)
    data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
    return pq.read_table(pa.BufferReader(data), columns=_COLUMNS)


def _values(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True)


def heal(output: str, ledger: Ledger) -> int:
    """Take superseded rows out of their parts; returns how many there were."""
    for part, images in ledger.superseded.items():
        sink.drop(output, part, images)
    return sum(map(len, ledger.superseded.values()))


# How many images a shard was found to hold, so that it need not be opened to know it is done.


def note_shard(
    output: str, shard: str, *, etag: str, include: str | None, num_images: dict[str, int]
) -> None:
    """Record what was counted when a shard was read to its end, by the ETags of its verdicts."""
    record = {"shard": shard, "etag": etag, "include": include, "images": num_images}
    files.write_bytes(_record(output, shard), (json.dumps(record) + "\n").encode())


def counted(output: str, shard: str, *, etag: str, include: str | None) -> dict[str, int] | None:
    """What was recorded of a shard while it had this ETag, under the same glob."""
    try:
        record = json.loads(files.read_bytes(_record(output, shard), max_bytes=2**16))
        if (record["shard"], record["etag"], record["include"]) == (shard, etag, include):
            return {str(each): int(number) for each, number in record["images"].items()}
    except (errors.FetchError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not counted: the shard is read again
    return None


def _record(output: str, shard: str) -> str:
    return uris.join(output, "shards", f"{sha256(shard.encode()).hexdigest()[:24]}.json")
