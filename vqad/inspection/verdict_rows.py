"""Reading the verdicts of an output part by part, as Arrow columns.

An output may have millions of rows, so no more than a few parts are in memory at a time. Outputs of
older versions have fewer columns; those that they lack are null.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad import tables
from vqad.inspection import sink
from vqad.storage import errors, files, output_layout

NUM_READERS: Final = 16  # threads
_PARTS_AT_ONCE: Final = 4 * NUM_READERS

# The columns of the verdicts, and the part that a row is in.
ROWS: Final = pa.schema([*tables.VERDICTS, ("part", pa.string())])


def read(output: str, damaged: list[str]) -> Iterator[pa.Table]:
    """Yield the rows of each verdicts part as a table of ``ROWS``; raises ArchiveError.

    The names of parts that can't be read are added to ``damaged``.
    """
    parts = sorted(sink.parts(output, "verdicts"))
    with ThreadPoolExecutor(NUM_READERS) as pool:
        # The pool reads ahead of the caller, so it gets a bounded number of parts at a time.
        for start in range(0, len(parts), _PARTS_AT_ONCE):
            names = parts[start : start + _PARTS_AT_ONCE]
            found = pool.map(lambda part: _read(output, part), names)
            for part, rows in zip(names, found, strict=True):
                if rows is None:
                    damaged.append(part)
                else:
                    yield rows


def columns(output: str, names: Sequence[str], damaged: list[str]) -> dict[str, pa.Table]:
    """These columns of all verdicts, by category, one row for each image; raises ArchiveError.

    ``damaged`` is as in ``read``. Of two rows for one image, which a run that was killed may leave,
    the one with the later ``inspected_at`` counts.
    """
    wanted = list(dict.fromkeys([*names, "image", "category", "inspected_at"]))
    found = [rows.select(wanted) for rows in read(output, damaged)]
    if not found:
        return {}
    return {
        category: rows.select(names)
        for category, rows in by_category(_latest(pa.concat_tables(found))).items()
    }


def _latest(rows: pa.Table) -> pa.Table:
    if pc.count_distinct(rows["image"]).as_py() == len(rows):
        return rows
    rows = rows.sort_by("inspected_at")
    last = {image: at for at, image in enumerate(rows["image"].to_pylist())}
    return rows.take(pa.array(sorted(last.values()), pa.int64()))


def _read(output: str, part: str) -> pa.Table | None:
    """The rows of a part; None if it can't be read as a part of the table."""
    try:
        uri = output_layout.part(output, "verdicts", part)
        data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
        return _as_rows(pq.read_table(pa.BufferReader(data)), part)
    except errors.FetchError as failure:
        if failure.error in ("too_large", "missing"):
            return None
        raise
    except Exception:  # a parser may raise any exception for damaged bytes
        return None


def _as_rows(table: pa.Table, part: str) -> pa.Table:
    """The table with exactly the columns of ``ROWS``."""
    table = table.append_column("part", pa.repeat(pa.scalar(part), len(table)))
    present = set(table.column_names)
    columns = [
        table[each.name].cast(each.type) if each.name in present else _nulls(each, len(table))
        for each in ROWS
    ]
    return pa.table(columns, schema=ROWS)


def _nulls(field: pa.Field, num_rows: int) -> pa.Array:
    if not field.nullable:
        raise KeyError(field.name)
    return pa.nulls(num_rows, field.type)


def by_category(rows: pa.Table) -> dict[str, pa.Table]:
    """The rows of each category."""
    categories = pc.unique(rows["category"]).to_pylist()
    if len(categories) == 1:
        return {categories[0]: rows}
    return {each: rows.filter(pc.equal(rows["category"], each)) for each in categories}
