"""Reading a shard: its members become units of work as the stream goes by.

Members that have their verdict are passed over. What breaks the shard off is a row of its own,
under the shard's own URI and in a part of its own, so that it can go when the shard is whole.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from vqad.images import listing, shards
from vqad.inspection import ledger, sink
from vqad.inspection.plan import Shard
from vqad.inspection.stages import DECODED, decode_bytes, rejected
from vqad.storage import lease
from vqad.storage.errors import OF_THE_STORE, FetchError


@dataclass(kw_only=True)
class _Units:
    """Rows on their way into units: the new ones as they come, the others by their old part."""

    num_rows: int
    num_old: Counter[str]  # rows to come, by part
    waiting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> Iterator[pa.Table]:
        """The unit that this row completes."""
        part = row["part"]
        rows = self.waiting.setdefault(part, [])
        rows.append(row)
        if len(rows) == (self.num_old[part] if part else self.num_rows):
            yield _unit(self.waiting.pop(part))

    def rest(self) -> Iterator[pa.Table]:
        """What no more rows will complete."""
        for rows in self.waiting.values():
            yield _unit(rows)


def _unit(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=DECODED)


def read_shard(
    shard: Shard,
    *,
    output: str,
    holder: str,
    include: str | None,
    sizes_px: dict[str, int],
    num_rows: int,
) -> Iterator[pa.Table]:
    """Units of up to ``num_rows`` decoded images, or of an old part's rows to be made anew."""
    units = _Units(
        num_rows=num_rows, num_old=Counter(shard.known[image].part for image in shard.redo)
    )
    counted: Counter[str] = Counter()  # rows of the shard's images, by ETag
    num_taken, failure = 0, None
    try:
        for member in _members(shard, include):
            known = shard.known.get(member.image)
            if known is not None and member.image not in shard.redo:
                counted[known.etag] += 1
                continue
            if num_taken == shard.limit:
                yield from units.rest()
                return
            row = _row(shard, member, sizes_px)
            num_taken += 1
            counted[shard.listed.etag] += 1
            yield from units.add(row)
    except FetchError as error:
        failure = error
    yield from units.rest()
    if holder:
        lease.confirm(output, holder)
    yield from _ended(shard, failure, counted, output)
    # What the store withheld it may give the next time; the shard is then not said to be read.
    if failure is None or failure.error not in OF_THE_STORE:
        ledger.note_shard(
            output,
            shard.listed.image,
            etag=shard.listed.etag,
            include=include,
            num_images=dict(counted),
        )


def _members(shard: Shard, include: str | None) -> Iterator[shards.Member]:
    listed = shard.listed
    found = shards.members(listed.image, size_bytes=listed.size_bytes, etag=_etag(listed))
    whole = include is None or listing.is_included(shard.router.path(listed.image), include)
    for member in found:
        if whole or listing.is_included(shard.router.path(member.image), include):
            yield member


def _etag(listed: Any) -> str:
    return listed.etag if listed.image.startswith("s3://") else ""


def _row(shard: Shard, member: shards.Member, sizes_px: dict[str, int]) -> dict[str, Any]:
    category = shard.router.category(member.image)
    start_s = time.monotonic()
    if member.error:
        found = rejected(member.error, member.error_detail)
    elif category not in sizes_px:
        found = decode_bytes(b"", category, sizes_px)
    else:
        data = member.read()
        fetched_s = time.monotonic() - start_s
        found = decode_bytes(data, category, sizes_px) | {"fetch_seconds": fetched_s}
    return _listed(shard, member.image, category, member.size_bytes) | found


def _listed(shard: Shard, image: str, category: str, size_bytes: int) -> dict[str, Any]:
    known = shard.known.get(image)
    return {
        "image": image,
        "category": category,
        "source_etag": shard.listed.etag,
        "source_bytes": size_bytes,
        "source_modified_at": shard.listed.modified_at,
        "part": known.part if known else "",
    }


def _ended(
    shard: Shard, failure: FetchError | None, counted: Counter[str], output: str
) -> Iterator[pa.Table]:
    """The row for all that could not be read, or the end of an earlier such row."""
    image = shard.listed.image
    known = shard.known.get(image)
    if failure is None:
        if known is not None:
            sink.drop(output, known.part, [image])
    elif known is not None and image not in shard.redo:
        counted[known.etag] += 1
    else:
        counted[shard.listed.etag] += 1
        category = shard.router.category(image)
        listed = _listed(shard, image, category, shard.listed.size_bytes)
        yield _unit([listed | rejected(failure.error, failure.detail)])
