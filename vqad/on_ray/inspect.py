"""Inspecting an archive on Ray: the chain of stages that carries out a plan.

    list -> fetch and decode (CPU tasks) -> inspect (detector actors) -> write (tables)

Images stay rows from end to end: an image that can't be fetched or decoded goes on as a row with
the reason, so that every listed image ends with exactly one verdict. The stages are in
``vqad.inspection.stages``; this module states what each of them may use of the machine.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import ray

from vqad.inspection import ledger, shard_records, sink
from vqad.inspection.inspector import Inspector, InspectorOptions
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan
from vqad.inspection.plan import units as units_of
from vqad.inspection.summary import InspectSummary, Progress, Say
from vqad.inspection.survey import left_out_text
from vqad.on_ray import resources, session, stage_tasks, units
from vqad.storage import lease

# Images of one unit of work, which become one part (guesses): few enough that a worker needs
# little memory and that all actors have work to the end, many enough to be worth a file.
_MOST_PER_UNIT: Final = 128
_FEWEST_PER_UNIT: Final = 16
_UNITS_PER_ACTOR: Final = 8

_CPUS_FOR_WHOLE_DECODERS: Final = 4  # of a node (a guess): decoding then leaves some to the others

# Memory of a detector actor: 1.4 GB with the paper's networks and batches of 16 (measured), rounded
# up.
_ACTOR_BYTES: Final = 2 * 2**30

# Fractions of a CPU, so that all stages fit on one CPU together and none starves another. Each
# stage asks for another fraction: Ray would fuse stages that ask for the same.
_CPUS_OF_ACTOR: Final = 0.6
_CPUS_OF_DECODER: Final = 0.25


def check_places(job: InspectJob, say: Say) -> None:
    """Look for a place for the detectors, and one decoding task beside them.

    Without it Ray waits and says nothing. Raises NoPlaceError for a private Ray.
    """
    gpus = _gpus_per_actor(job)
    num_actors = job.num_actors or _num_actors(gpus)
    cpus = round(num_actors * _CPUS_OF_ACTOR + _cpus_per_decoder(gpus), 2)
    resources.check_private(
        f"{num_actors} detector{'s' if num_actors > 1 else ''}",
        {"CPU": cpus} | ({"GPU": num_actors * gpus} if gpus else {}),
        "give a smaller --num-actors or --gpus-per-actor",
    )
    one = {"CPU": _CPUS_OF_ACTOR} | ({"GPU": gpus} if gpus else {})
    if waiting := resources.waits_for("a detector", one):
        say(waiting)


def inspect(
    job: InspectJob,
    plan: Plan,
    say: Say,
    *,
    num_most_severe: int = 0,
    held: lease.Lease | None = None,
) -> InspectSummary:
    """Carry out a plan. Needs a connected Ray if the plan has work.

    The ``num_most_severe`` images with the largest scores are kept in the summary. Raises
    LeaseLostError where the lease is lost meanwhile, IncompleteError for an error of a worker, and
    Ray's errors.
    """
    start_s = time.monotonic()
    summary = _cleaned_up(job, plan)
    if plan.has_work:
        progress = Progress(say, num_todo=plan.num_todo, is_exact=not plan.num_unread_shards)
        for rows in _written(job, plan, held):
            summary.add(rows, num_most_severe=num_most_severe)
            progress.show(summary)
        progress.show(summary, ended=True)
    _count_left_out(job, plan, summary, say)
    if sink.parts(job.output, "verdicts") - plan.ledger.parts - summary.parts:
        # A worker of an earlier run wrote them before it noticed that its run was over.
        summary.superseded_removed += ledger.remove_superseded(job.output, ledger.read(job.output))
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


def _count_left_out(job: InspectJob, plan: Plan, summary: InspectSummary, say: Say) -> None:
    """Add the other members of the shards that this run has read to their ends."""
    shards = [each.listed for each in plan.shards]
    records = shard_records.read(job.output, shards, include=job.include)
    found = sum((each.left_out for each in records.values()), Counter())
    if found:
        say(f"left out by suffix, in shards: {left_out_text(found)}")
    summary.left_out.update(found)


def _cleaned_up(job: InspectJob, plan: Plan) -> InspectSummary:
    """Remove what an interrupted run left; returns the summary that the run begins with."""
    return InspectSummary(
        run=plan.run,
        skipped=plan.num_skipped,
        left_out=Counter(plan.left_out),
        passed_over=plan.ledger.passed_over,
        versions=plan.versions,
        shadows=plan.shadows.versions,
        orphans_removed=sink.remove_orphans(job.output),
        superseded_removed=ledger.remove_superseded(job.output, plan.ledger),
    )


def _written(job: InspectJob, plan: Plan, held: lease.Lease | None) -> Iterator[pa.Table]:
    """Rows of ``stages.write``, one unit at a time, as the chain finishes them."""
    chain = _chain(job, plan, held.holder if held else "")
    for packed in chain.iter_batches(batch_size=None, batch_format="pyarrow"):
        if held:
            held.check()
        yield from units.unpack(packed)


def _gpus_per_actor(job: InspectJob) -> float:
    if job.gpus_per_actor is not None:
        return job.gpus_per_actor
    return 1.0 if session.num_gpus() >= 1 else 0.0


def _num_actors(gpus: float) -> int:
    """One actor per share of a GPU, else per CPU: two processes do more than two threads of one."""
    if gpus:
        return max(1, int(session.num_gpus() / gpus))
    return max(1, min(session.num_cpus(), session.memory_bytes() // _ACTOR_BYTES))


def _num_decoders(gpus: float) -> int | None:
    """Decoding tasks at once; None for as many as their shares of CPUs allow, on new nodes as well.

    Where the networks need the CPUs, decoding must keep ahead of them and no more.
    """
    return None if gpus else max(1, session.num_cpus() // 2)


def _cpus_per_decoder(gpus: float) -> float:
    """A CPU for each decoding task where nodes have several, which bounds the tasks of a node.

    Each task has several threads and needs memory: 0.4 GiB for its process (measured), and the
    budgets of ``vqad.images.memory``. Where the number of tasks is bounded, or a node has few CPUs,
    a fraction, so that all stages fit on one CPU.
    """
    return 1.0 if gpus and session.most_cpus() >= _CPUS_FOR_WHOLE_DECODERS else _CPUS_OF_DECODER


def _rows_per_unit(plan: Plan, num_actors: int) -> int:
    num_rows = -(-plan.num_todo // (_UNITS_PER_ACTOR * num_actors))
    return min(_MOST_PER_UNIT, max(_FEWEST_PER_UNIT, num_rows))


def _num_with_work(most_actors: int, num_inputs: int, *, has_shards: bool) -> int:
    """Actors that can get a unit: another would load its libraries and end, beside those that work.

    A shard becomes any number of units.
    """
    return most_actors if has_shards else min(most_actors, num_inputs)


def _chain(job: InspectJob, plan: Plan, holder: str) -> "ray.data.Dataset":
    gpus = _gpus_per_actor(job)
    most_actors = job.num_actors or _num_actors(gpus)
    num_rows = _rows_per_unit(plan, most_actors)
    inputs = _inputs(plan, num_rows)
    num_actors = _num_with_work(most_actors, len(inputs), has_shards=bool(plan.shards))
    # Small blocks: each unit of a shard goes on as soon as it is decoded, not with the last one.
    ray.data.DataContext.get_current().target_max_block_size = 2**20
    return (
        ray.data.from_arrow(inputs)
        .map_batches(
            stage_tasks.decode,  # type: ignore[arg-type]
            fn_kwargs=_decode_options(job, plan, holder, num_rows),
            compute=ray.data.TaskPoolStrategy(size=_num_decoders(gpus)),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_cpus_per_decoder(gpus),
        )
        .map_batches(
            _Inspector,
            # Their threads are those of a long night: results don't depend on the number of images.
            fn_constructor_kwargs={"options": _inspector_options(job, plan, most_actors)},
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            batch_size=1,  # unit; with GPUs Ray refuses None
            batch_format="pyarrow",
            num_cpus=_CPUS_OF_ACTOR,
            num_gpus=gpus,
        )
        .map_batches(
            stage_tasks.write,
            fn_kwargs={"output": job.output, "version": plan.ledger.version, "holder": holder},
            # Bounded: else, on a slow storage, waiting writers would fill the memory.
            compute=ray.data.TaskPoolStrategy(size=num_actors),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.1,
        )
    )


def _decode_options(job: InspectJob, plan: Plan, holder: str, num_rows: int) -> dict[str, Any]:
    return {
        "forms": plan.forms,
        "output": job.output,
        "holder": holder,
        "include": job.include,
        "num_rows": num_rows,
        # One object each: a worker fetches only the work of its own shard, with all its entries.
        "shards": {each.listed.image: ray.put(each) for each in plan.shards},
    }


def _inspector_options(job: InspectJob, plan: Plan, num_actors: int) -> InspectorOptions:
    return InspectorOptions(
        models=job.models,
        versions=plan.versions,
        run=plan.run,
        batch_size=job.batch_size,
        maps=job.maps,
        num_threads=max(1, session.num_cpus() // num_actors),
        shadows=plan.shadows.versions,
    )


def _inputs(plan: Plan, num_rows: int) -> list[pa.Table]:
    """One block per unit of files and per shard, so that each is a task of its own."""
    return [units.pack(unit) for unit in units_of(plan.todo, num_rows, plan.forms)] + [
        units.pack(pa.table({"shard": [each.listed.image]})) for each in plan.shards
    ]


class _Inspector(Inspector):
    def __call__(self, packed: pa.Table) -> Iterator[pa.Table]:
        return units.done(packed, lambda unit: iter([self.inspect(unit)]))
