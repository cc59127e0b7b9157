"""The images of a Parquet file: one per row, in a column of bytes.

The column is either binary, or a struct with a field ``bytes`` and often a field ``path``, as
Hugging Face's datasets write images.
"""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vqad.images.listing import is_excluded
from vqad.images.shard_contents import Content, ShardError, cut_short
from vqad.storage.errors import FetchError

_ROWS_PER_BATCH: Final = 16

# Columns that may contain the name of an image, best first. Without one, the row number is used.
_NAME_COLUMNS: Final = ("path", "file_name", "filename", "name", "key", "id")


def read(file: Any) -> Iterator[Content]:
    """The image of every row in order; raises ShardError where the file is broken."""
    table = open_table(file)
    content_column, name_column = _columns(table.schema_arrow)
    num_rows = 0
    try:
        for row in _rows(table, content_column, name_column):
            name, data = _image_of(row[content_column])
            name = name or (row[name_column] if name_column else "") or f"{num_rows:06}"
            num_rows += 1
            if not is_excluded(name) or ".." in name.split("/"):
                yield name, len(data), partial(bytes, data), ""
    except pa.ArrowException:
        cut_short(num_rows)


def open_table(file: Any) -> pq.ParquetFile:
    """Read the footer; raises ShardError if there is none."""
    magic = file.read(4)
    file.seek(-4, io.SEEK_END)
    if magic == b"PAR1" and file.read(4) != b"PAR1":
        cut_short(0)
    file.seek(0)
    try:
        # With pre_buffer, a column of a whole row group (all its pixels) would be read at once.
        return pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FetchError):
            raise
        raise ShardError("unreadable", "not a Parquet file") from None


def is_text(schema: pa.Schema, name: str) -> bool:
    """True if there is exactly one column of this name and it contains text."""
    at = schema.get_field_index(name)
    kind = schema.field(at).type if at >= 0 else None
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _columns(schema: pa.Schema) -> tuple[str, str | None]:
    """The column of image bytes, and the column of names if there is one."""
    name_column = next((each for each in _NAME_COLUMNS if is_text(schema, each)), None)
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name), name_column
    raise ShardError("unsupported", "Parquet without a column of image bytes")


def _rows(
    table: pq.ParquetFile, content_column: str, name_column: str | None
) -> Iterator[dict[str, Any]]:
    columns = [content_column] if name_column is None else [content_column, name_column]
    for batch in table.iter_batches(batch_size=_ROWS_PER_BATCH, columns=columns):
        yield from batch.to_pylist()


def _image_of(value: Any) -> tuple[str, bytes]:
    """The path ("" if there is none) and the bytes in one value of the column of image bytes."""
    if isinstance(value, dict):
        return value.get("path") or "", value["bytes"] or b""
    return "", value or b""
