"""What a run will do, settled before anything is written: listing, routing, ledger, detectors."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from vqad import archives, listing, tables
from vqad.detector import Detector
from vqad.on_ray import ledger
from vqad.on_ray.ledger import Done, Ledger
from vqad.routing import Router, Routing, router
from vqad.stored import DetectorError
from vqad.uris import path_of

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

# Verdicts that say nothing of the image itself: it may be there, and readable, the next time.
_OF_THE_STORE = ("missing", "denied", "fetch_failed")


@dataclass(frozen=True, kw_only=True)
class InspectJob:
    """All of one `vqad inspect`."""

    archive: str  # URI
    models: str  # URI
    output: str  # URI
    routing: Routing = field(default_factory=Routing)
    include: str | None = None  # glob on the path below the archive
    modified_since: datetime | None = None
    limit: int | None = None  # images of this run, of those still to be done
    redo: Literal["changed", "all"] | None = None  # of the images that have their verdict
    maps: Literal["all", "defect", "none"] = "all"
    num_actors: int | None = None  # None: one a GPU, else one a CPU where memory allows
    gpus_per_actor: float | None = None  # None: one where the cluster has any, else none
    batch_size: int = 16  # images in one pass of the networks

    def __post_init__(self) -> None:
        """Refuse sizes that could never run."""
        for name in ("limit", "num_actors", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.maps not in ("all", "defect", "none"):
            raise ValueError(f"maps must be all, defect or none, got {self.maps}")
        if self.redo not in (None, "changed", "all"):
            raise ValueError(f"redo must be changed or all, got {self.redo}")
        if self.gpus_per_actor is not None and self.gpus_per_actor < 0:
            raise ValueError(f"gpus_per_actor must not be negative, got {self.gpus_per_actor}")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard to be read, of whose members some may be known already."""

    listed: archives.Listed
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


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is there, whatever was done of it: the part of a plan that takes no lease."""

    run: str
    listed: Sequence[archives.Listed]
    router: Router
    versions: dict[str, str]
    sizes_px: dict[str, int]


def survey(job: InspectJob) -> Survey:
    """List, route and pin the detectors.

    Raises ValueError for what a user can mend: no images, no way to tell a category, no detector.
    """
    ours = [path_of(each) for each in (job.output, job.models, job.routing.manifest) if each]
    listed = [
        each
        for each in listing.list_archive(
            job.archive, include=job.include, modified_since=job.modified_since
        )
        if not _lies_in(path_of(each.image), ours)
    ]
    if not listed:
        raise ValueError(f"no images in {job.archive}{_narrowed(job)}")
    routing = router(job.archive, job.routing)
    found = _detectors(job, _categories(job, listed, routing))
    return Survey(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        listed=listed,
        router=routing,
        versions={category: version for category, (version, _) in found.items()},
        sizes_px={category: size_px for category, (_, size_px) in found.items()},
    )


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _narrowed(job: InspectJob) -> str:
    kept = [f"matching {job.include!r}"] if job.include else []
    if job.modified_since:
        kept.append(f"modified since {job.modified_since.isoformat()}")
    return f" ({', '.join(kept)})" if kept else ""


def _categories(
    job: InspectJob, listed: Sequence[archives.Listed], routing: Router
) -> dict[str, bool]:
    """Categories whose detectors may be needed, and whether an image is known to be of it."""
    if job.routing.category is not None:
        return {job.routing.category: True}
    images = [each.image for each in listed if not listing.is_shard(each.image)]
    certain = {routing.category(image) for image in images} - {tables.UNKNOWN_CATEGORY}
    found = dict.fromkeys(sorted(certain), True)
    if len(images) < len(listed):  # what shards hold is known when they are read
        found |= {name: False for name in _models(job) if name not in found}
    if not found:
        raise ValueError(
            f"the category of no image in {job.archive} can be told: the images lie in no folders;"
            " give --category NAME, --category-pattern REGEX or --manifest URI"
        )
    return found


def _models(job: InspectJob) -> list[str]:
    try:
        return [name for name in archives.list_names(job.models) if not name.startswith(".")]
    except archives.ArchiveError:
        return []


def _detectors(job: InspectJob, categories: dict[str, bool]) -> dict[str, tuple[str, int]]:
    """Version and input size of every category that has a detector, each loaded and let go."""
    found: dict[str, tuple[str, int]] = {}
    for category in categories:
        if "/" in category or category.startswith("."):
            continue
        try:
            loaded = Detector.load(job.models, category)
            found[category] = (loaded.version, loaded.settings.vqvae.image_size_px)
        except DetectorError:
            # A broken detector ends the run; one that was never there rejects its images.
            if archives.exists(archives.join(job.models, category, "current.json")):
                raise
    if not found:
        wanted = [each for each, is_certain in categories.items() if is_certain] or ["its shards"]
        raise ValueError(
            f"no detector in {job.models} for any of {', '.join(wanted)}; "
            f"there are: {', '.join(_models(job)) or 'none'}; train with vqad train, or give "
            "--category"
        )
    return found


def plan(job: InspectJob, surveyed: Survey | None = None) -> Plan:
    """Look up what is done of what is there. Writes nothing; raises as ``survey`` does."""
    surveyed = surveyed or survey(job)
    known = ledger.read(job.output)
    files = [each for each in surveyed.listed if not listing.is_shard(each.image)]
    rows = [
        (each, surveyed.router.category(each.image), part)
        for each in files
        if (part := _part(job, surveyed, each, known.done.get(each.image))) is not None
    ]
    num_skipped = len(files) - len(rows)
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
    job: InspectJob, surveyed: Survey, listed: archives.Listed, done: Done | None
) -> str | None:
    """The part whose row is to give way, "" for an image without a row, None to leave it."""
    if done is None:
        return ""
    category = surveyed.router.category(listed.image)
    changed = (
        done.etag != listed.etag
        or done.model_version != surveyed.versions.get(category, "")
        or done.error in _OF_THE_STORE
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


def _as_member(shard: archives.Listed, image: str) -> archives.Listed:
    return archives.Listed(
        image=image, size_bytes=0, etag=shard.etag, modified_at=shard.modified_at
    )


def _expected(
    job: InspectJob, shard: archives.Listed, known: dict[str, Done], redo: frozenset[str]
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


def table(rows: Sequence[tuple[archives.Listed, str, str]]) -> pa.Table:
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
