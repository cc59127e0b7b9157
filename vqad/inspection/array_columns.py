"""Tables whose columns of pixels and of maps are made of numpy arrays and read as such.

Arrow and numpy share the bytes, so an array is copied once, when a table is made: no Python list
and no bytes object lies between.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy import ndarray

from vqad.images.value_buffers import value_buffers

_LARGE: Final = ("pixels", "anomaly_map")


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of rows in which pixels and maps are arrays, or None; what a row lacks is null."""
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        of_arrays = _of_arrays if field.name in _LARGE else pa.array
        columns.append(of_arrays(values, field.type))
    return pa.table(columns, schema=schema)


def _of_arrays(values: Sequence[ndarray | None], kind: pa.DataType) -> pa.Array:
    """A column of bytes or of lists of numbers, one array a row in the order of its memory."""
    is_binary = pa.types.is_large_binary(kind)
    dtype = np.uint8 if is_binary else kind.value_type.to_pandas_dtype()
    flat = [_none(dtype) if each is None else _flat(each, dtype) for each in values]
    ends = np.cumsum([0, *(each.size for each in flat)])
    data = np.concatenate(flat) if flat else _none(dtype)
    is_null = pa.array([each is None for each in values], pa.bool_())
    if not is_binary:
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), pa.array(data), type=kind, mask=is_null
        )
    is_valid = pa.array([each is not None for each in values], pa.bool_()).buffers()[1]
    buffers = [is_valid, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _none(dtype: Any) -> ndarray:
    return np.empty(0, dtype)


def _flat(values: ndarray, dtype: Any) -> ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(dtype)


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table; pixels are buffers that share its bytes, or None."""
    others = table.drop_columns(["pixels"]).to_pylist()
    for row, pixels in zip(others, value_buffers(table["pixels"]), strict=True):
        yield row | {"pixels": pixels}
