"""Units of work on their way between the stages of the chain, and errors among them.

A unit travels as one row, because Ray cuts and joins blocks between rows as it likes. An error of
a stage travels as a unit of its own: the next stages pass it on, and the driver raises it.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from vqad.images.value_buffers import value_buffers
from vqad.on_ray import failures
from vqad.on_ray.failures import Failure

_FAILURE: Final = pa.schema([("reason", pa.string()), ("traceback", pa.string())])


def pack(unit: pa.Table) -> pa.Table:
    """A table of one row that contains a unit."""
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, unit.schema) as writer:
        writer.write_table(unit)
    data = buffer.getvalue()  # no copy, which pa.array would make
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.table({"unit": pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])})


def unpack(packed: Any) -> Iterator[pa.Table]:
    """The units of a block. Raises IncompleteError for an error of an earlier stage."""
    for unit in _unpacked(packed):
        if _is_failure(unit):
            (row,) = unit.to_pylist()
            raise Failure(**row).error()
        yield unit


def done(packed: Any, stage: Callable[[pa.Table], Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """What a stage makes of each unit of a block, packed; an error becomes a unit."""
    for unit in _unpacked(packed):
        if _is_failure(unit):
            yield pack(unit)
            continue
        try:
            for each in stage(unit):
                yield pack(each)
        except ray.exceptions.RayError:
            raise  # Ray may do the task again
        except Exception as error:  # whatever it is, the driver says it and ends the run
            yield pack(pa.Table.from_pylist([asdict(failures.of(error))], schema=_FAILURE))


def _unpacked(packed: Any) -> Iterator[pa.Table]:
    for data in value_buffers(packed["unit"]):
        yield pa.ipc.open_stream(data).read_all()


def _is_failure(unit: pa.Table) -> bool:
    return unit.column_names == _FAILURE.names
