"""The values of Arrow columns of bytes as buffers that share the column's memory.

``column[at].as_buffer()`` looks like that, but Arrow copies the value when it makes the scalar.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa


def value_buffers(column: pa.Array | pa.ChunkedArray) -> Iterator[pa.Buffer | None]:
    """The values of a column of binary or large binary in order; None where one is null."""
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        _, ends, data = chunk.buffers()
        width = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
        # A column without a value may have no ends.
        bounds = np.frombuffer(ends or b"", width)[chunk.offset :]
        for at, is_valid in enumerate(chunk.is_valid()):
            if is_valid.as_py():
                start, end = int(bounds[at]), int(bounds[at + 1])
                # Without any byte in a column there may be no memory to share.
                yield data.slice(start, end - start) if end > start else pa.py_buffer(b"")
            else:
                yield None
