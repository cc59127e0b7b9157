"""Inspecting an archive: one chain from a listing to tables.

    list -> fetch and decode (CPU tasks) -> inspect (detector actors) -> sink (tables)

Rows stay rows from end to end: what can't be fetched or decoded goes on as a row that says why,
so that every listed image ends with exactly one verdict. The stages are in ``stages``; Ray, and
what each of them may use of the machine, appears here alone.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from vqad.inspection import ledger, shard_stage, sink, stages
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan, Shard, units
from vqad.inspection.summary import InspectSummary, Pace, Say
from vqad.on_ray import session
from vqad.storage import errors, lease

# What can end a run that has begun, besides our own mistakes.
FAILURES = (ray.exceptions.RayError, errors.ArchiveError, lease.LeaseLostError, OSError)

# Images of one unit of work, which are one part: few enough that a worker holds little and that
# all actors have work to the end, many enough to be worth a file.
_MOST_A_UNIT: Final = 128
_FEWEST_A_UNIT: Final = 16
_UNITS_AN_ACTOR: Final = 8


def inspect(
    job: InspectJob,
    settled: Plan,
    say: Say,
    *,
    num_severest: int = 0,
    held: lease.Lease | None = None,
) -> InspectSummary:
    """Run a plan; ``say`` takes lines of progress. Needs a connected Ray if there is work."""
    start_s = time.monotonic()
    summary = InspectSummary(
        run=settled.run,
        skipped=settled.num_skipped,
        versions=settled.versions,
        orphans_removed=sink.remove_orphans(job.output),
        superseded_removed=ledger.heal(job.output, settled.ledger),
    )
    if len(settled.todo) or settled.shards:
        pace = Pace(say, num_todo=settled.num_todo, is_exact=settled.is_exact)
        holder = held.holder if held else ""
        for rows in _chain(job, settled, holder).iter_batches(
            batch_size=None, batch_format="pyarrow"
        ):
            if held:
                held.check()
            for unit in _unpacked(rows):
                summary.add(unit, num_severest=num_severest)
            pace.show(summary)
        pace.show(summary, ended=True)
    if sink.parts(job.output, "verdicts") - settled.ledger.parts - summary.parts:
        # Written by a worker of an earlier run that did not know yet that it was over.
        summary.superseded_removed += ledger.heal(job.output, ledger.read(job.output))
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


# An actor holds about 1.4 GB with the paper's networks and batches of 16 (measured).
_BYTES_AN_ACTOR = 2 * 2**30


def _num_actors(gpus: float) -> int:
    """One a share of a GPU; else one a CPU: two threads do less in one process than in two."""
    if gpus:
        return max(1, int(session.num_gpus() / gpus))
    return max(1, min(session.num_cpus(), session.memory_bytes() // _BYTES_AN_ACTOR))


def _half(num_cpus: int) -> int:
    return max(1, num_cpus // 2)


def _chain(job: InspectJob, settled: Plan, holder: str) -> "ray.data.Dataset":
    gpus = job.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if session.num_gpus() >= 1 else 0.0
    num_actors = job.num_actors or _num_actors(gpus)
    num_rows = -(-settled.num_todo // (_UNITS_AN_ACTOR * num_actors))
    num_rows = min(_MOST_A_UNIT, max(_FEWEST_A_UNIT, num_rows))
    options = stages.InspectorOptions(
        models=job.models,
        versions=settled.versions,
        run=settled.run,
        batch_size=job.batch_size,
        maps=job.maps,
        num_threads=max(1, session.num_cpus() // num_actors),
    )
    # So that the units of a shard go on one by one, not when all of it is read.
    ray.data.DataContext.get_current().target_max_block_size = 2**20
    return (
        ray.data.from_arrow(_inputs(settled, num_rows))
        # Fractions of a CPU, so that all stages fit on one together and none starves another.
        .map_batches(
            _decode,  # type: ignore[arg-type]
            fn_kwargs={
                "sizes_px": settled.sizes_px,
                "output": job.output,
                "holder": holder,
                "include": job.include,
                "num_rows": num_rows,
                # Each by itself: a worker takes what is known of the members of its own shard.
                "shards": {each.listed.image: ray.put(each) for each in settled.shards},
            },
            # Where the networks need the CPUs, decoding must keep ahead of them and no more.
            compute=ray.data.TaskPoolStrategy(size=None if gpus else _half(session.num_cpus())),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.25,
        )
        .map_batches(
            _Inspector,
            fn_constructor_kwargs={"options": options},
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            batch_size=1,  # unit; Ray wants a number where there are GPUs
            batch_format="pyarrow",
            num_cpus=0.6,
            num_gpus=gpus,
        )
        .map_batches(
            _write,  # type: ignore[arg-type]
            fn_kwargs={"output": job.output, "holder": holder},
            # No more than there is to write, or a slow store would fill the memory with writers.
            compute=ray.data.TaskPoolStrategy(size=num_actors),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.1,
        )
    )


# A unit travels as one row, so that Ray, which cuts and joins blocks as it likes, leaves it whole.


def _inputs(settled: Plan, num_rows: int) -> list[pa.Table]:
    """Units of files, and shards, one block each, so that each is a task of its own."""
    return [_packed(unit) for unit in units(settled.todo, num_rows)] + [
        _packed(pa.table({"shard": [each.listed.image]})) for each in settled.shards
    ]


def _packed(unit: pa.Table) -> pa.Table:
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, unit.schema) as writer:
        writer.write_table(unit)
    data = buffer.getvalue()  # not copied, as it would be by pa.array
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.table({"unit": pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])})


def _unpacked(packed: Any) -> Iterator[pa.Table]:
    for value in packed["unit"]:
        yield pa.ipc.open_stream(value.as_buffer()).read_all()


def _decode(
    packed: pa.Table,
    *,
    shards: "dict[str, ray.ObjectRef[Shard]]",
    sizes_px: dict[str, int],
    **reading: Any,
) -> Iterator[pa.Table]:
    for unit in _unpacked(packed):
        if unit.column_names == ["shard"]:
            shard = ray.get(shards[unit["shard"][0].as_py()])
            for part in shard_stage.read_shard(shard, sizes_px=sizes_px, **reading):
                yield _packed(part)
        else:
            yield _packed(stages.decode(unit, sizes_px=sizes_px))


class _Inspector(stages.Inspector):
    def __call__(self, packed: pa.Table) -> Iterator[pa.Table]:
        for unit in _unpacked(packed):
            yield _packed(self.inspect(unit))


def _write(packed: pa.Table, *, output: str, holder: str) -> Iterator[pa.Table]:
    for unit in _unpacked(packed):
        yield _packed(stages.write(unit, output=output, holder=holder))
