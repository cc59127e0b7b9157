"""The work that a plan gives to the stages: rows of images, and shards.

This module needs no torch, so that processes which decode and write start without it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from vqad import tables
from vqad.images import listing
from vqad.images.routing import Router
from vqad.inspection.ledger import Entry

# One row per image: its listing, its category, and the part with its old verdict, or "".
TODO = pa.schema(
    [
        tables.VERDICTS.field("image"),
        tables.VERDICTS.field("category"),
        tables.VERDICTS.field("source_etag"),
        tables.VERDICTS.field("source_bytes"),
        tables.VERDICTS.field("source_modified_at"),
        pa.field("part", pa.string(), nullable=False),
    ]
)

# Of a unit of work whose detector takes tiles, see `whole_rows`: a map may have 16 MB, and a
# member of a shard any size.
MOST_WHOLE_ROWS: Final = 8
MOST_WHOLE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """One shard's work in a plan. Some of its members may have verdicts already."""

    listed: listing.Listed
    router: Router  # of its members
    known: dict[str, Entry]  # its images in the ledger
    redo: frozenset[str]  # those of them that get a new verdict
    limit: int | None = None  # most members to inspect
    num_expected: int | None = None  # members to inspect; None before the shard was read once
    left_out: Counter[str] = field(default_factory=Counter)  # other members, if it was read before

    @property
    def num_skipped(self) -> int:
        """Members that keep their verdict."""
        return len(self.known) - len(self.redo)
