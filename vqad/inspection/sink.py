"""Where an inspection's rows land: parts of the maps and of the verdicts table.

A part is named after the images in it, so that writing it again replaces it. The maps land before
the verdicts; a verdicts part that exists is whole, and says that its images are done. A maps part
without its verdicts part is what an interrupted run left, and is removed by the next.

Rows of images that are inspected anew take the old rows' place in the old part, by one write: a
reader finds the old verdict or the new one, never both and never neither.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad import tables
from vqad.storage import errors, files, uris

Table = Literal["verdicts", "maps"]
LARGEST_PART_BYTES: Final = 2**31


def write_part(output: str, verdicts: pa.Table, maps: pa.Table) -> str:
    """Write the rows of one category as a maps part and a verdicts part; returns their name."""
    (category,) = pc.unique(verdicts["category"]).to_pylist()
    name = _part_name(verdicts["image"].to_pylist())
    part = f"{tables.category_folder(category)}/{name}"
    if len(maps):
        _write(part_uri(output, "maps", part), maps)
    _write(part_uri(output, "verdicts", part), verdicts)
    return part


def replace(output: str, part: str, verdicts: pa.Table, maps: pa.Table) -> str:
    """Put rows of one category in the place of the same images' rows in a part that is there.

    If the images are of another category now they go to a part of it, and then leave this one.
    Returns the part that has them.
    """
    (category,) = pc.unique(verdicts["category"]).to_pylist()
    images = verdicts["image"].to_pylist()
    if part.partition("/")[0] != tables.category_folder(category):
        new = write_part(output, verdicts, maps)
        drop(output, part, images)
        return new
    _rewrite(output, part, images, verdicts, maps)
    return part


def drop(output: str, part: str, images: Sequence[str]) -> None:
    """Take the rows of these images out of a part, and the part away where none is left."""
    _rewrite(output, part, images, tables.VERDICTS.empty_table(), tables.MAPS.empty_table())


def _rewrite(
    output: str, part: str, images: Sequence[str], verdicts: pa.Table, maps: pa.Table
) -> None:
    verdicts = pa.concat_tables([_others(output, "verdicts", part, images), verdicts])
    maps = pa.concat_tables([_others(output, "maps", part, images), maps])
    if len(maps):
        _write(part_uri(output, "maps", part), maps)
    if len(verdicts):
        _write(part_uri(output, "verdicts", part), verdicts)
    else:
        files.delete(part_uri(output, "verdicts", part))
    if not len(maps):
        files.delete(part_uri(output, "maps", part))


def _others(output: str, table: Table, part: str, images: Sequence[str]) -> pa.Table:
    schema = tables.VERDICTS if table == "verdicts" else tables.MAPS
    try:
        data = files.read_bytes(part_uri(output, table, part), max_bytes=LARGEST_PART_BYTES)
    except errors.FetchError as failure:
        if failure.error == "missing":
            return schema.empty_table()
        raise
    rows = pq.read_table(pa.BufferReader(data), schema=schema)
    return rows.filter(pc.invert(pc.is_in(rows["image"], pa.array(images, pa.string()))))


def _part_name(images: Iterable[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()
    return f"part-{digest[:24]}.parquet"


def _write(uri: str, table: pa.Table) -> None:
    # In memory first: the file appears whole or not at all, on a disk as on object storage.
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    files.write_bytes(uri, buffer.getvalue().to_pybytes())


def part_uri(output: str, table: Table, part: str) -> str:
    """Where a part of a table is."""
    return uris.join(output, table, part)


def remove_orphans(output: str) -> int:
    """Delete maps parts that have no verdicts part; returns how many there were."""
    orphans = parts(output, "maps") - parts(output, "verdicts")
    for part in orphans:
        files.delete(part_uri(output, "maps", part))
    return len(orphans)


def parts(output: str, table: Table) -> set[str]:
    """Every part of a table, as CATEGORY FOLDER/NAME."""
    root = uris.join(output, table)
    return {
        f"{folder}/{name}"
        for folder in _names(root)
        for name in _names(uris.join(root, folder))
        if name.startswith("part-") and name.endswith(".parquet")
    }


def _names(uri: str) -> list[str]:
    return files.list_names(uri) if files.exists(uri) else []
