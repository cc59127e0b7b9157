"""Inspecting an archive: one chain from a listing to tables.

    list -> fetch and decode (CPU tasks) -> inspect (detector actors) -> sink (tables)

Rows stay rows from end to end: what can't be fetched or decoded goes on as a row that says why,
so that every listed image ends with exactly one verdict. The functions of the chain take and give
Arrow tables and could be called by hand; Ray appears in `inspect` alone.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch

from vqad import archives, images, tables
from vqad.detector import Detector
from vqad.fit import to_images, to_tensor
from vqad.on_ray import session, sink
from vqad.routing import Routing, route
from vqad.stored import DetectorError

# What can end a run that has begun, besides our own mistakes.
FAILURES = (ray.exceptions.RayError, archives.ArchiveError, OSError)

# What the stages pass on; the first two are the listing's, the next three the decoder's.
_LISTED = pa.schema(
    [
        tables.VERDICTS.field("image"),
        tables.VERDICTS.field("category"),
        tables.VERDICTS.field("source_etag"),
        tables.VERDICTS.field("source_bytes"),
        tables.VERDICTS.field("source_modified_at"),
    ]
)
_DECODED = pa.schema(
    [
        *_LISTED,
        ("pixels", pa.large_binary()),  # RGB, size x size x 3, row by row; null where rejected
        ("bits", pa.int32()),  # a channel: 8 or 16
        tables.VERDICTS.field("width_px"),
        tables.VERDICTS.field("height_px"),
        tables.VERDICTS.field("error"),
        tables.VERDICTS.field("error_detail"),
    ]
)


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
        if self.gpus_per_actor is not None and self.gpus_per_actor < 0:
            raise ValueError(f"gpus_per_actor must not be negative, got {self.gpus_per_actor}")


@dataclass(kw_only=True)
class InspectSummary:
    """Counts of one run: listed = images + skipped, images = normal + defect + reject."""

    run: str
    listed: int = 0
    skipped: int = 0
    by_category: dict[str, Counter] = field(default_factory=dict)
    errors: Counter = field(default_factory=Counter)
    severest: list[dict[str, Any]] = field(default_factory=list)  # rows, largest score first
    versions: dict[str, str] = field(default_factory=dict)
    orphans_removed: int = 0
    seconds: float = 0.0

    def count(self, verdict: str) -> int:
        """Images of this run with a verdict."""
        return sum(counts[verdict] for counts in self.by_category.values())

    @property
    def images(self) -> int:
        """Images of this run."""
        return sum(counts.total() for counts in self.by_category.values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do, settled before anything is written."""

    run: str
    todo: pa.Table  # _LISTED
    num_listed: int
    num_skipped: int
    versions: dict[str, str]  # the detector of every category, pinned
    sizes_px: dict[str, int]  # of its input


def plan(job: InspectJob) -> Plan:
    """List, route, look up what is done and pin the detectors. Writes nothing.

    Raises ValueError for what a user can mend: no images, no way to tell a category, no detector.
    """
    listed = archives.list_images(
        job.archive, include=job.include, modified_since=job.modified_since
    )
    routed = list(route(listed, job.archive, job.routing))
    if not routed:
        raise ValueError(f"no images in {job.archive}{_narrowed(job)}")
    detectors = _detectors(job, sorted({category for _, category in routed}))
    done = sink.done_images(job.output)
    todo = [(each, category) for each, category in routed if each.image not in done]
    num_skipped = len(routed) - len(todo)
    if job.limit is not None:
        todo = todo[: job.limit]
    return Plan(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        todo=_table(todo),
        num_listed=len(todo) + num_skipped,
        num_skipped=num_skipped,
        versions={category: each.version for category, each in detectors.items()},
        sizes_px={
            category: each.settings.vqvae.image_size_px for category, each in detectors.items()
        },
    )


def _narrowed(job: InspectJob) -> str:
    kept = [f"matching {job.include!r}"] if job.include else []
    if job.modified_since:
        kept.append(f"modified since {job.modified_since.isoformat()}")
    return f" ({', '.join(kept)})" if kept else ""


def _detectors(job: InspectJob, categories: Sequence[str]) -> dict[str, Detector]:
    known = [each for each in categories if each != tables.UNKNOWN_CATEGORY]
    if not known:
        raise ValueError(
            f"the category of no image in {job.archive} can be told: the images lie in no folders;"
            " give --category NAME, --category-pattern REGEX or --manifest URI"
        )
    found: dict[str, Detector] = {}
    for category in known:
        if "/" in category or category.startswith("."):
            continue
        try:
            found[category] = Detector.load(job.models, category)
        except DetectorError:
            # A broken detector ends the run; one that was never there rejects its images.
            if archives.exists(archives.join(job.models, category, "current.json")):
                raise
    if not found:
        try:
            there = [name for name in archives.list_names(job.models) if not name.startswith(".")]
        except archives.ArchiveError:
            there = []
        raise ValueError(
            f"no detector in {job.models} for any of {', '.join(known)}; "
            f"there are: {', '.join(there) or 'none'}; train with vqad train, or give --category"
        )
    return found


def _table(routed: Sequence[tuple[archives.Listed, str]]) -> pa.Table:
    return pa.table(
        {
            "image": [each.image for each, _ in routed],
            "category": [category for _, category in routed],
            "source_etag": [each.etag for each, _ in routed],
            "source_bytes": [each.size_bytes for each, _ in routed],
            "source_modified_at": [each.modified_at for each, _ in routed],
        },
        schema=_LISTED,
    )


def decode(listed: pa.Table, *, sizes_px: dict[str, int], num_threads: int = 8) -> pa.Table:
    """Fetch and decode a batch of the listing; a failure is a row with its error."""
    rows = listed.to_pylist()
    with ThreadPoolExecutor(num_threads) as pool:
        decoded = list(pool.map(lambda row: _decode_one(row, sizes_px), rows))
    return pa.Table.from_pylist(
        [row | one for row, one in zip(rows, decoded, strict=True)], schema=_DECODED
    )


def _decode_one(row: dict[str, Any], sizes_px: dict[str, int]) -> dict[str, Any]:
    size_px = sizes_px.get(row["category"])
    if size_px is None:
        told = row["category"] != tables.UNKNOWN_CATEGORY
        detail = f"no detector for {row['category']}" if told else "the category cannot be told"
        return _rejected("unknown_category", detail)
    try:
        data = archives.read_bytes(row["image"], max_bytes=images.MAX_BYTES)
        decoded = images.decode(data, size_px=size_px)
    except (archives.FetchError, images.ImageError) as error:
        return _rejected(error.error, error.detail)
    return {
        "pixels": decoded.pixels.tobytes(),
        "bits": decoded.pixels.dtype.itemsize * 8,
        "width_px": decoded.source_width_px,
        "height_px": decoded.source_height_px,
        "error": "",
        "error_detail": "",
    }


def _rejected(error: str, detail: str) -> dict[str, Any]:
    return {"error": error, "error_detail": detail}


class Inspector:
    """Detectors of all pinned versions, loaded when first needed and kept."""

    def __init__(
        self,
        *,
        models: str,
        versions: dict[str, str],
        run: str,
        batch_size: int,
        maps: str,
        num_threads: int,
    ) -> None:
        torch.set_num_threads(num_threads)
        self.models, self.versions, self.run = models, versions, run
        self.batch_size, self.maps = batch_size, maps
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.loaded: dict[str, Detector] = {}

    def __call__(self, decoded: pa.Table) -> pa.Table:
        """Verdict rows, each with its map (null where there is none to keep)."""
        rows = decoded.to_pylist()
        found = [self._reject(row) for row in rows if row["error"]]
        whole = sorted((row for row in rows if not row["error"]), key=lambda row: row["category"])
        for category, group in groupby(whole, key=lambda row: row["category"]):
            for batch in _chunks(list(group), self.batch_size):
                found += self._inspect(category, batch)
        return pa.Table.from_pylist(found, schema=_INSPECTED)

    def detector(self, category: str) -> Detector:
        """The pinned detector of a category."""
        if category not in self.loaded:
            version = self.versions[category]
            loaded = Detector.load(self.models, category, version=version)
            self.loaded[category] = loaded.to(self.device)
        return self.loaded[category]

    def _inspect(self, category: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        detector = self.detector(category)
        found = detector.inspect(batch_of(rows, detector.settings.vqvae.image_size_px))
        return [self._row(row, detector, found, at) for at, row in enumerate(rows)]

    def _row(self, row: dict[str, Any], detector: Detector, found: Any, at: int) -> dict[str, Any]:
        anomaly_map = found.anomaly_maps[at]
        regions = detector.regions(
            anomaly_map, source_width_px=row["width_px"], source_height_px=row["height_px"]
        )
        keep = self.maps == "all" or (self.maps == "defect" and found.verdicts[at] == "defect")
        return self._common(row) | {
            "verdict": found.verdicts[at],
            "score": found.scores[at],
            "threshold": detector.settings.threshold,
            "codes_changed": found.codes_changed[at],
            "regions": [vars(region) for region in regions],
            "model_version": detector.version,
            "map_height_px": anomaly_map.shape[0],
            "map_width_px": anomaly_map.shape[1],
            "anomaly_map": anomaly_map.ravel() if keep else None,
        }

    def _reject(self, row: dict[str, Any]) -> dict[str, Any]:
        version = self.versions.get(row["category"], "")
        return self._common(row) | {"verdict": "reject", "regions": [], "model_version": version}

    def _common(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = {name: row[name] for name in tables.VERDICTS.names if name in row}
        return kept | {"inspected_at": datetime.now(UTC), "run": self.run}


_INSPECTED = pa.schema(
    [
        *tables.VERDICTS,
        ("map_height_px", pa.int32()),
        ("map_width_px", pa.int32()),
        ("anomaly_map", tables.MAPS.field("anomaly_map").type),
    ]
)


def batch_of(rows: Sequence[dict[str, Any]], size_px: int) -> torch.Tensor:
    """Images (batch, 3, size, size) in [0, 1] from the rows' bytes."""
    pixels = [
        np.frombuffer(row["pixels"], np.uint8 if row["bits"] == 8 else np.uint16).reshape(
            size_px, size_px, 3
        )
        for row in rows
    ]
    return to_images(to_tensor(images.stack(pixels)))


def _chunks(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def write(inspected: pa.Table, *, output: str) -> pa.Table:
    """Write a batch as parts, one a category, and hand on what the summary counts."""
    for category in inspected["category"].unique().to_pylist():
        rows = inspected.filter(pa.compute.equal(inspected["category"], category))
        with_map = rows.filter(rows["anomaly_map"].is_valid())
        sink.write_part(
            output,
            rows.select(tables.VERDICTS.names).cast(tables.VERDICTS),
            with_map.select(tables.MAPS.names).cast(tables.MAPS),
        )
    return inspected.select(["image", "category", "verdict", "score", "threshold", "error"])


def inspect(
    job: InspectJob, settled: Plan, say: Callable[[str], None], *, num_severest: int = 0
) -> InspectSummary:
    """Run a plan; ``say`` takes lines of progress. Needs a connected Ray."""
    start_s = time.monotonic()
    summary = InspectSummary(
        run=settled.run,
        listed=settled.num_listed,
        skipped=settled.num_skipped,
        versions=settled.versions,
        orphans_removed=sink.remove_orphans(job.output),
    )
    if len(settled.todo):
        _follow(_chain(job, settled), len(settled.todo), summary, say, num_severest)
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


# Rows of one task. Small enough that a worker holds little, large enough to be worth a task.
_ROWS_A_TASK = 32
_ROWS_A_PART = 256


# An actor holds about 1.4 GB with the paper's networks and batches of 16 (measured).
_BYTES_AN_ACTOR = 2 * 2**30


def _num_actors(gpus: float) -> int:
    """One a share of a GPU; else one a CPU: two threads do less in one process than in two."""
    if gpus:
        return max(1, int(session.num_gpus() / gpus))
    return max(1, min(session.num_cpus(), session.memory_bytes() // _BYTES_AN_ACTOR))


def _half(num_cpus: int) -> int:
    return max(1, num_cpus // 2)


def _chain(job: InspectJob, settled: Plan) -> "ray.data.Dataset":
    gpus = job.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if session.num_gpus() >= 1 else 0.0
    num_actors = job.num_actors or _num_actors(gpus)
    blocks = [
        settled.todo.slice(at, _ROWS_A_TASK) for at in range(0, len(settled.todo), _ROWS_A_TASK)
    ]
    return (
        ray.data.from_arrow(blocks)
        # Fractions of a CPU, so that all stages fit on one together and none starves another.
        .map_batches(
            decode,  # type: ignore[arg-type]
            fn_kwargs={"sizes_px": settled.sizes_px},
            # Where the networks need the CPUs, decoding must keep ahead of them and no more.
            compute=ray.data.TaskPoolStrategy(size=None if gpus else _half(session.num_cpus())),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.25,
        )
        .map_batches(
            Inspector,
            fn_constructor_kwargs={
                "models": job.models,
                "versions": settled.versions,
                "run": settled.run,
                "batch_size": job.batch_size,
                "maps": job.maps,
                "num_threads": max(1, session.num_cpus() // num_actors),
            },
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.6,
            num_gpus=gpus,
        )
        .map_batches(
            write,  # type: ignore[arg-type]
            fn_kwargs={"output": job.output},
            batch_size=_ROWS_A_PART,
            batch_format="pyarrow",
            num_cpus=0.1,
        )
    )


def _follow(
    dataset: "ray.data.Dataset",
    num_todo: int,
    summary: InspectSummary,
    say: Callable[[str], None],
    num_severest: int,
) -> None:
    start_s = last_s = time.monotonic()
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in batch.to_pylist():  # type: ignore[operator,union-attr]
            counts = summary.by_category.setdefault(row["category"], Counter())
            counts[row["verdict"]] += 1
            if row["error"]:
                summary.errors[row["error"]] += 1
            else:
                summary.severest.append(row)
        summary.severest.sort(key=lambda row: (-row["score"] / row["threshold"], row["image"]))
        del summary.severest[num_severest:]
        now_s = time.monotonic()
        if now_s - last_s > 5 or summary.images == num_todo:
            last_s = now_s
            rate = summary.images / (now_s - start_s)
            say(
                f"{summary.images} of {num_todo} images, {rate:.1f} images/s, "
                f"{summary.count('defect')} defects, {summary.count('reject')} rejects, "
                f"{(num_todo - summary.images) / rate:.0f} s left"
            )
