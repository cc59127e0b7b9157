"""Reading a shard: its members are decoded and grouped into units of work while it streams by.

Members that have a verdict are skipped. If the shard breaks off, one row with the shard's own URI
stands for all members that could not be read. It has a part of its own, so that it can be removed
when the shard is whole.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vqad.images import listing, memory, shards
from vqad.images.placement import ImageForm
from vqad.inspection import shard_records, sink
from vqad.inspection.array_columns import table_of
from vqad.inspection.shard_records import ShardRecord
from vqad.inspection.stages import DECODED, decode_bytes, rejected
from vqad.inspection.work import MOST_WHOLE_BYTES, MOST_WHOLE_ROWS, ShardWork
from vqad.storage import lease
from vqad.storage.errors import OF_THE_STORE, FetchError


@dataclass(kw_only=True)
class _Units:
    """Rows that wait until their unit is complete: new rows in order, others by their old part."""

    num_rows: int  # of a unit of new rows
    num_old: Counter[str]  # rows of a unit, by old part
    waiting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> Iterator[pa.Table]:
        """Add a row; yields the unit that it completes."""
        part = row["part"]
        rows = self.waiting.setdefault(part, [])
        rows.append(row)
        if len(rows) == self.num_old[part] if part else self._is_complete(rows):
            yield _unit(self.waiting.pop(part))

    def _is_complete(self, rows: list[dict[str, Any]]) -> bool:
        """True for enough new rows; fewer where the inspector reads their images."""
        whole = [row["data"] for row in rows if row.get("data") is not None]
        return (
            len(rows) == self.num_rows
            or len(whole) == MOST_WHOLE_ROWS
            or sum(map(len, whole)) >= MOST_WHOLE_BYTES
        )

    def rest(self) -> Iterator[pa.Table]:
        """The incomplete units, once no more rows come."""
        for rows in self.waiting.values():
            yield _unit(rows)


def _unit(rows: list[dict[str, Any]]) -> pa.Table:
    return table_of(rows, DECODED)


@dataclass(kw_only=True)
class _Reading:
    """One pass through a shard, and what it met."""

    shard: ShardWork
    num_images: Counter[str] = field(default_factory=Counter)  # by the ETag of their verdict
    left_out: Counter[str] = field(default_factory=Counter)  # members that are no images, by suffix
    failure: FetchError | None = None  # the shard broke off
    is_at_limit: bool = False  # members are left for the next run

    def rows(self, include: str | None, forms: dict[str, ImageForm]) -> Iterator[dict[str, Any]]:
        """Decoded rows of the members that need a verdict, up to the limit."""
        shard, num_taken = self.shard, 0
        try:
            for member in _members(shard, include, self.left_out):
                known = shard.known.get(member.image)
                if known is not None and member.image not in shard.redo:
                    self.num_images[known.etag] += 1
                    continue
                if num_taken == shard.limit:
                    self.is_at_limit = True
                    return
                row = _row(shard, member, forms)
                num_taken += 1
                self.num_images[shard.listed.etag] += 1
                yield row
        except FetchError as error:
            self.failure = error


def read_shard(
    shard: ShardWork,
    *,
    output: str,
    holder: str,
    include: str | None,
    forms: dict[str, ImageForm],
    num_rows: int,
) -> Iterator[pa.Table]:
    """Yield units of up to ``num_rows`` decoded images, or of all rows that share an old part.

    Raises LeaseLostError if ``holder`` no longer has the lease on the output; "" checks nothing.
    """
    num_old = Counter(shard.known[image].part for image in shard.redo)
    units, reading = _Units(num_rows=num_rows, num_old=num_old), _Reading(shard=shard)
    for row in reading.rows(include, forms):
        yield from units.add(row)
    yield from units.rest()
    if reading.is_at_limit:
        return
    if holder:
        lease.confirm(output, holder)
    yield from _update_shard_row(reading, output)
    _record(reading, output, include)


def _record(reading: _Reading, output: str, include: str | None) -> None:
    """Record the number of images of a shard that was read to its end."""
    # Storage errors may be transient, so do not mark this shard as fully read.
    if reading.failure is not None and reading.failure.error in OF_THE_STORE:
        return
    record = ShardRecord(images=dict(reading.num_images), left_out=reading.left_out)
    shard_records.write(output, reading.shard.listed, record, include=include)


def _members(
    shard: ShardWork, include: str | None, left_out: Counter[str]
) -> Iterator[shards.Member]:
    """The images that the glob includes; the other members that it includes are counted."""
    listed = shard.listed
    path = shard.router.path(listed.image)
    whole = include is None or listing.is_included(path, include)

    def leave_out(name: str) -> None:
        if whole or listing.is_included(f"{path}/{name}", include):
            left_out[listing.suffix_of(name)] += 1

    # A manifest may name a shard that could not be looked up: then its size is not known.
    is_known = listed.modified_at is not None
    size_bytes = listed.size_bytes if is_known else shards.size_of(listed.image)
    found = shards.members(
        listed.image, size_bytes=size_bytes, etag=_etag(listed), leave_out=leave_out
    )
    for member in found:
        if whole or listing.is_included(shard.router.path(member.image), include):
            yield member


def _etag(listed: Any) -> str:
    """The ETag by which object storage refuses a shard that changes while it is read."""
    return listed.etag if listed.image.startswith("s3://") else ""


def _row(shard: ShardWork, member: shards.Member, forms: dict[str, ImageForm]) -> dict[str, Any]:
    category = shard.router.category(member.image)
    start_s = time.monotonic()
    if member.error:
        decoded = rejected(member.error, member.error_detail)
    elif category not in forms:
        decoded = decode_bytes(b"", category, forms)
    else:
        with memory.READING.reserved(member.size_bytes):
            data = member.read()
            fetched_s = time.monotonic() - start_s
            decoded = decode_bytes(data, category, forms) | {"fetch_seconds": fetched_s}
    return _listed(shard, member.image, category, member.size_bytes) | decoded


def _listed(shard: ShardWork, image: str, category: str, size_bytes: int) -> dict[str, Any]:
    known = shard.known.get(image)
    return {
        "image": image,
        "category": category,
        "source_etag": shard.listed.etag,
        "source_bytes": size_bytes,
        "source_modified_at": shard.listed.modified_at,
        "part": known.part if known else "",
    }


def _update_shard_row(reading: _Reading, output: str) -> Iterator[pa.Table]:
    """Yield the row for the members that could not be read, or remove an earlier such row."""
    shard, failure = reading.shard, reading.failure
    image = shard.listed.image
    known = shard.known.get(image)
    if failure is None:
        if known is not None:
            sink.remove_rows(output, known.part, [image])
    elif known is not None and image not in shard.redo:
        reading.num_images[known.etag] += 1
    else:
        reading.num_images[shard.listed.etag] += 1
        category = shard.router.category(image)
        listed = _listed(shard, image, category, shard.listed.size_bytes)
        yield _unit([listed | rejected(failure.error, failure.detail)])
