"""The tasks of the chain that need no network: fetch and decode, and write.

This module needs no torch. Ray imports a task's module in each process that runs it, and that took
most of the time until the first image was decoded.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray

from vqad.images.placement import ImageForm
from vqad.inspection import shard_stage, stages
from vqad.inspection.work import ShardWork
from vqad.on_ray import units


def decode(
    packed: pa.Table,
    *,
    shards: "dict[str, ray.ObjectRef[ShardWork]]",
    forms: dict[str, ImageForm],
    **reading: Any,
) -> Iterator[pa.Table]:
    """Units of decoded rows, of a unit of files or of a shard."""

    def decoded(unit: pa.Table) -> Iterator[pa.Table]:
        if unit.column_names == ["shard"]:
            shard = ray.get(shards[unit["shard"][0].as_py()])
            yield from shard_stage.read_shard(shard, forms=forms, **reading)
        else:
            yield stages.decode(unit, forms=forms)

    return units.done(packed, decoded)


def write(packed: pa.Table, **writing: str) -> Iterator[pa.Table]:
    """The columns that a summary counts, once their rows are written."""
    return units.done(packed, lambda unit: iter([stages.write(unit, **writing)]))
