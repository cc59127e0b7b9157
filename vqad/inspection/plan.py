"""The plan of a run: which images it inspects, which it skips, and by which detectors.

A plan is made from the survey and the ledger before the run writes anything.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

import pyarrow as pa

from vqad.images import listing
from vqad.images.placement import ImageForm
from vqad.inspection import ledger, shard_records
from vqad.inspection.job import InspectJob
from vqad.inspection.ledger import Entry, Ledger
from vqad.inspection.shadow import NONE, Shadows
from vqad.inspection.shard_records import ShardRecord
from vqad.inspection.survey import Survey, survey
from vqad.inspection.work import MOST_WHOLE_ROWS, TODO, ShardWork
from vqad.storage.errors import OF_THE_STORE

NO_FORMS: Final[Mapping[str, ImageForm]] = {}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The images and shards that a run will inspect, and by which detectors."""

    run: str
    todo: pa.Table  # TODO; images that are files
    shards: Sequence[ShardWork]
    num_skipped: int  # images that keep their verdict
    # Files and members that are no images, by suffix, without those of the shards to read.
    left_out: Counter[str]
    versions: dict[str, str]  # of the pinned detector, by category
    forms: dict[str, ImageForm]  # of the images that it takes, by category
    ledger: Ledger
    shadows: Shadows = NONE  # second detectors
    slow_formats: dict[str, str] = field(default_factory=dict)  # as in `Survey`

    @property
    def num_todo(self) -> int:
        """Images to inspect, without those in shards that were never read."""
        return len(self.todo) + sum(each.num_expected or 0 for each in self.shards)

    @property
    def num_unread_shards(self) -> int:
        """Shards whose number of images is not known."""
        return sum(each.num_expected is None for each in self.shards)

    @property
    def has_work(self) -> bool:
        """True if there is anything to inspect or to read."""
        return bool(len(self.todo) or self.shards)


def make_plan(job: InspectJob, surveyed: Survey | None = None) -> Plan:
    """Compare what was found with what is done. Writes nothing; raises as ``survey`` does."""
    surveyed = surveyed or survey(job)
    done = ledger.read(job.output)
    images = [each for each in surveyed.listed if not listing.is_shard(each.image)]
    rows = [
        (each, surveyed.router.category(each.image), part)
        for each in images
        if (part := _part_to_write(job, surveyed, each, done.entries.get(each.image))) is not None
    ]
    todo = rows[: job.limit]
    shards = list(_shard_work(job, surveyed, done))
    planned = _limited(shards, None if job.limit is None else job.limit - len(todo))
    to_read = {each.listed.image for each in planned}
    return Plan(
        run=surveyed.run,
        todo=table(todo),
        shards=planned,
        num_skipped=len(images) - len(rows) + sum(each.num_skipped for each in shards),
        # The shards of the plan are counted again when they are read.
        left_out=sum(
            (each.left_out for each in shards if each.listed.image not in to_read),
            Counter(surveyed.left_out),
        ),
        versions=surveyed.versions,
        forms=surveyed.forms,
        ledger=done,
        shadows=surveyed.shadows,
        slow_formats=surveyed.slow_formats,
    )


def _part_to_write(
    job: InspectJob, surveyed: Survey, listed: listing.Listed, entry: Entry | None
) -> str | None:
    """The part whose row will be replaced; "" for a new row; None if the image is skipped."""
    if entry is None:
        return ""
    category = surveyed.router.category(listed.image)
    changed = (
        entry.etag != listed.etag
        or entry.model_version != surveyed.versions.get(category, "")
        or entry.error in OF_THE_STORE
    )
    return entry.part if job.redo == "all" or (job.redo == "changed" and changed) else None


def _shard_work(job: InspectJob, surveyed: Survey, done: Ledger) -> Iterator[ShardWork]:
    listed = [each for each in surveyed.listed if listing.is_shard(each.image)]
    members: dict[str, dict[str, Entry]] = {each.image: {} for each in listed}
    for image, entry in done.entries.items() if listed else ():
        # A row's image may also be the shard itself: that row represents the members that could
        # not be read, and is kept or redone like a member's row.
        shard = image.partition("#")[0]
        if shard in members:
            members[shard][image] = entry
    records = shard_records.read(job.output, listed, include=job.include)
    for each in listed:
        known, record = members[each.image], records.get(each.image)
        redo = frozenset(
            image
            for image, entry in known.items()
            if _part_to_write(job, surveyed, _as_member(each, image), entry) is not None
        )
        yield ShardWork(
            listed=each,
            router=surveyed.router.of_shard(each.image),
            known=known,
            redo=redo,
            num_expected=None if record is None else _num_expected(record, known, redo),
            left_out=Counter() if record is None else record.left_out,
        )


def _as_member(shard: listing.Listed, image: str) -> listing.Listed:
    return listing.Listed(image=image, size_bytes=0, etag=shard.etag, modified_at=shard.modified_at)


def _num_expected(record: ShardRecord, known: dict[str, Entry], redo: frozenset[str]) -> int:
    """Members to inspect of a shard that was read to its end before."""
    # A record says how many members the shard has, by the ETag of their verdicts. Rows that are no
    # longer in the table (their part was deleted) are missing and have to be made again. They are
    # counted for each ETag alone: rows of an older content must not make up for missing new ones.
    num_rows = Counter(each.etag for each in known.values())
    missing = sum(max(0, number - num_rows[etag]) for etag, number in record.images.items())
    return missing + len(redo)


def _limited(shards: Sequence[ShardWork], limit: int | None) -> list[ShardWork]:
    """The shards that have work left, each with its share of the limit, until that is used up."""
    unfinished = [each for each in shards if each.num_expected != 0]
    if limit is None:
        return unfinished
    planned = []
    for shard in unfinished:
        if limit == 0:
            break
        if shard.num_expected is None:
            # It may have more members than the limit leaves, so no other shard is begun after it.
            planned.append(replace(shard, limit=limit))
            break
        num_members = min(shard.num_expected, limit)
        planned.append(replace(shard, limit=limit, num_expected=num_members))
        limit -= num_members
    return planned


def table(rows: Sequence[tuple[listing.Listed, str, str]]) -> pa.Table:
    """Rows of listing, category and part as a table."""
    return pa.table(
        {
            "image": [each.image for each, _, _ in rows],
            "category": [category for _, category, _ in rows],
            "source_etag": [each.etag for each, _, _ in rows],
            "source_bytes": [each.size_bytes for each, _, _ in rows],
            "source_modified_at": [each.modified_at for each, _, _ in rows],
            "part": [part for _, _, part in rows],
        },
        schema=TODO,
    )


def units(
    todo: pa.Table, num_rows: int, forms: Mapping[str, ImageForm] = NO_FORMS
) -> Iterator[pa.Table]:
    """Cut images into units of work, each of which is decoded, inspected and written together.

    New images: up to ``num_rows`` of one category, because they become one part, and fewer where
    its form has tiles. Images with an old verdict: all that share an old part, because that part is
    rewritten once.
    """
    order = todo.sort_by([("part", "ascending"), ("category", "ascending"), ("image", "ascending")])
    at = 0
    for part, category, count in _runs_of_rows(order):
        form = forms.get(category)
        new = min(num_rows, MOST_WHOLE_ROWS) if form and form.tiling else num_rows
        most = count if part else new
        for start in range(at, at + count, most):
            yield order.slice(start, min(most, at + count - start))
        at += count


def _runs_of_rows(order: pa.Table) -> Iterator[tuple[str, str, int]]:
    """Old part, or category, and number of successive sorted rows that share it."""
    pairs = zip(order["part"].to_pylist(), order["category"].to_pylist(), strict=True)
    for (part, category), rows in groupby(
        (part, "" if part else category) for part, category in pairs
    ):
        yield part, category, sum(1 for _ in rows)
