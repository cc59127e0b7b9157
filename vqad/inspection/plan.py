"""What a run will do of what is there, settled before anything is written, by the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from vqad import tables
from vqad.images import listing
from vqad.images.routing import Router
from vqad.inspection import ledger
from vqad.inspection.job import InspectJob
from vqad.inspection.ledger import Done, Ledger
from vqad.inspection.survey import Survey, survey
from vqad.storage.errors import OF_THE_STORE

# What the listing says of an image, and the part that has its verdict already, or "".
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


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard to be read, of whose members some may be known already."""

    listed: listing.Listed
    router: Router  # for its members
    known: dict[str, Done]  # by image, from the ledger
    redo: frozenset[str]  # of those, whose verdict is to be made anew
    limit: int | None = None  # members to be inspected at the most
    num_expected: int | None = None  # members to be inspected, where that was counted before


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do."""

    run: str
    todo: pa.Table  # TODO
    shards: Sequence[Shard]
    num_skipped: int
    versions: dict[str, str]  # the detector of every category, pinned
    sizes_px: dict[str, int]  # of its input
    ledger: Ledger

    @property
    def num_todo(self) -> int:
        """Images to be inspected, as far as they are known before the shards are read."""
        return len(self.todo) + sum(each.num_expected or 0 for each in self.shards)

    @property
    def is_exact(self) -> bool:
        """Whether that is all of them."""
        return all(each.num_expected is not None for each in self.shards)


def plan(job: InspectJob, surveyed: Survey | None = None) -> Plan:
    """Look up what is done of what is there. Writes nothing; raises as ``survey`` does."""
    surveyed = surveyed or survey(job)
    known = ledger.read(job.output)
    images = [each for each in surveyed.listed if not listing.is_shard(each.image)]
    rows = [
        (each, surveyed.router.category(each.image), part)
        for each in images
        if (part := _part(job, surveyed, each, known.done.get(each.image))) is not None
    ]
    num_skipped = len(images) - len(rows)
    rows = rows[: job.limit]
    left = None if job.limit is None else job.limit - len(rows)
    shards: list[Shard] = []
    for shard in _shards(job, surveyed, known):
        num_skipped += len(shard.known) - len(shard.redo)
        if shard.num_expected != 0 and left != 0:
            shards.append(_limited(shard, left))
            if left is not None:
                left -= min(left, shards[-1].num_expected or left)
    return Plan(
        run=surveyed.run,
        todo=table(rows),
        shards=shards,
        num_skipped=num_skipped,
        versions=surveyed.versions,
        sizes_px=surveyed.sizes_px,
        ledger=known,
    )


def _part(
    job: InspectJob, surveyed: Survey, listed: listing.Listed, done: Done | None
) -> str | None:
    """The part whose row is to give way, "" for an image without a row, None to leave it."""
    if done is None:
        return ""
    category = surveyed.router.category(listed.image)
    changed = (
        done.etag != listed.etag
        or done.model_version != surveyed.versions.get(category, "")
        or done.error in OF_THE_STORE
    )
    return done.part if job.redo == "all" or (job.redo == "changed" and changed) else None


def _shards(job: InspectJob, surveyed: Survey, known: Ledger) -> Iterator[Shard]:
    listed = [each for each in surveyed.listed if listing.is_shard(each.image)]
    members: dict[str, dict[str, Done]] = {each.image: {} for each in listed}
    for image, done in known.done.items() if listed else ():
        shard = image.partition("#")[0]
        if shard in members:
            members[shard][image] = done
    for each in listed:
        mine = members[each.image]
        redo = frozenset(
            image
            for image, done in mine.items()
            if _part(job, surveyed, _as_member(each, image), done) is not None
        )
        yield Shard(
            listed=each,
            router=surveyed.router.of_shard(each.image),
            known=mine,
            redo=redo,
            num_expected=_expected(job, each, mine, redo),
        )


def _as_member(shard: listing.Listed, image: str) -> listing.Listed:
    return listing.Listed(image=image, size_bytes=0, etag=shard.etag, modified_at=shard.modified_at)


def _expected(
    job: InspectJob, shard: listing.Listed, known: dict[str, Done], redo: frozenset[str]
) -> int | None:
    """Members to be inspected, if the shard was read to its end before; else None."""
    if not known:
        return None
    counted = ledger.counted(job.output, shard.image, etag=shard.etag, include=job.include)
    if counted is None:
        return None
    missing = 0
    for etag, number in counted.items():
        missing += max(0, number - sum(each.etag == etag for each in known.values()))
    return missing + len(redo)


def _limited(shard: Shard, left: int | None) -> Shard:
    if left is None:
        return shard
    expected = shard.num_expected
    return Shard(
        listed=shard.listed,
        router=shard.router,
        known=shard.known,
        redo=shard.redo,
        limit=left,
        num_expected=None if expected is None else min(expected, left),
    )


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


def units(todo: pa.Table, num_rows: int) -> Iterator[pa.Table]:
    """Of one category each, or all the rows that share an old part."""
    order = todo.sort_by([("part", "ascending"), ("category", "ascending"), ("image", "ascending")])
    keys = order.group_by(["part", "category"], use_threads=False).aggregate([([], "count_all")])
    at = 0
    for part, counts in _runs(keys):
        for count in counts:
            most = count if part else num_rows
            for start in range(at, at + count, most):
                yield order.slice(start, min(most, at + count - start))
            at += count


def _runs(keys: pa.Table) -> Iterator[tuple[str, list[int]]]:
    """Rows of each category of a part; together where the part is an old one."""
    by_part: dict[str, list[int]] = {}
    for key in keys.to_pylist():
        by_part.setdefault(key["part"], []).append(key["count_all"])
    for part, counts in by_part.items():
        yield part, [sum(counts)] if part else counts
