"""The images of a Parquet file: one per row, in a column of bytes.

The column is either binary, or a struct with a field ``bytes`` and often a field ``path``, as
Hugging Face's datasets write images.
"""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad.images.listing import is_excluded
from vqad.images.shard_contents import (
    Content,
    ShardError,
    check_num_members,
    cut_short,
    first_look,
    reading_on,
)
from vqad.images.value_buffers import value_buffers

# One row at a time: a value is stored once however many rows repeat it, so that a few kilobytes
# can become sixteen images of a gigabyte each in a batch of sixteen.
_ROWS_PER_BATCH: Final = 1
_MAGIC: Final = b"PAR1"

# Columns that may contain the name of an image, best first. Without one, the row number is used.
_NAME_COLUMNS: Final = ("path", "file_name", "filename", "name", "key", "id")


def read(file: Any) -> Iterator[Content]:
    """The image of every row in order; raises ShardError where the file is broken."""
    stored_bytes = file.seek(0, io.SEEK_END)
    table = open_table(file)
    with first_look("not a Parquet file"):  # Arrow translates the footer's columns only here
        content_column, name_column = _columns(table.schema_arrow)
    names = [content_column] if name_column is None else [content_column, name_column]
    batches, num_rows = table.iter_batches(batch_size=_ROWS_PER_BATCH, columns=names), 0
    while True:
        with reading_on(num_rows):
            check_num_members(num_rows, stored_bytes)
            batch = next(batches, None)
            if batch is None:
                return
            path, data = _image_of(batch.column(content_column))
            name = path or (_text_of(batch.column(name_column)) if name_column else "")
        name = name or f"{num_rows:06}"
        num_rows += 1
        if not is_excluded(name) or ".." in name.split("/"):
            yield name, data.size, partial(data.to_pybytes), ""


def open_table(file: Any) -> pq.ParquetFile:
    """Read the footer; raises ShardError if there is none."""
    file.seek(0)
    starts_well = file.read(len(_MAGIC)) == _MAGIC
    if starts_well:
        file.seek(-len(_MAGIC), io.SEEK_END)
        if file.read(len(_MAGIC)) != _MAGIC:
            cut_short(0)
    file.seek(0)
    with first_look("not a Parquet file"):
        # With pre_buffer, a column of a whole row group (all its pixels) would be read at once.
        return pq.ParquetFile(
            file, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True
        )


def schema_in(file: Any) -> pa.Schema:
    """The columns; raises ShardError if they can't be read."""
    table = open_table(file)
    with first_look("not a Parquet file"):
        return table.schema_arrow


def is_text(schema: pa.Schema, name: str) -> bool:
    """True if there is exactly one column of this name and it contains text."""
    at = schema.get_field_index(name)
    return at >= 0 and _is_text(schema.field(at).type)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _columns(schema: pa.Schema) -> tuple[str, str | None]:
    """The column of image bytes, and the column of names if there is one."""
    name_column = next((each for each in _NAME_COLUMNS if is_text(schema, each)), None)
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if _is_bytes(kind):
            return str(field.name), name_column
    raise ShardError("unsupported", "Parquet without a column of image bytes")


def _image_of(column: pa.Array) -> tuple[str, pa.Buffer]:
    """The path ("" if there is none) and the bytes in the one value of the column of images."""
    if not pa.types.is_struct(column.type):
        return "", _bytes_of(column)
    has_path = column.type.get_field_index("path") >= 0
    path = _text_of(pc.struct_field(column, "path")) if has_path else ""
    return path, _bytes_of(pc.struct_field(column, "bytes"))


def _text_of(column: pa.Array) -> str:
    """The one value of a column of text; "" if it is null or no text.

    Parquet doesn't check that text is UTF-8. Like a file name that is not, it keeps its bytes.
    """
    if not _is_text(column.type):
        return ""
    kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
    value = column.cast(kind)[0].as_py()
    return (value or b"").decode("utf-8", "surrogateescape")


def _bytes_of(column: pa.Array) -> pa.Buffer:
    """The one value of a column of bytes, without a copy; no bytes if it is null."""
    (found,) = value_buffers(column)
    return found or pa.py_buffer(b"")
