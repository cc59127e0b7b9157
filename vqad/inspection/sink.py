"""Writing an inspection's rows as parts of the verdicts table and the maps table.

A part is named after the images in it, so writing it again replaces it. The maps part is written
before the verdicts part, and so is the part of a second detector's verdicts, if there is one. A
verdicts part that exists is whole, and means that its images are done. A maps part or a shadow part
without its verdicts part comes from an interrupted run; the next run removes it.

When images are inspected anew, one write puts their new rows in the place of the old ones in the
old part: a reader finds either the old or the new verdict. The one exception is an image that has
moved to another category. Its new row is written to a part of that category before the old row is
removed, because no write changes two files at once. Between these two writes a reader finds both;
if the run is killed there, both remain until the next run removes the one with the older
``inspected_at``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad import tables
from vqad.storage import errors, files, output_layout, uris
from vqad.storage.output_layout import Table

LARGEST_PART_BYTES: Final = 2**31
NO_VERDICTS: Final = tables.VERDICTS.empty_table()
_MAP: Final = "anomaly_map"


def write_part(
    output: str,
    verdicts: pa.Table,
    maps: pa.Table,
    shadow: pa.Table = NO_VERDICTS,
    *,
    version: str = tables.VERDICTS_VERSION,
) -> str:
    """Write rows of one category as a maps part and a verdicts part; returns the part's name.

    ``shadow`` are verdict rows of a second detector. ``version`` is that of the verdicts' schema.
    """
    (category,) = pc.unique(verdicts["category"]).to_pylist()
    part = output_layout.part_of(category, verdicts["image"].to_pylist())
    if len(maps):
        write_table(output_layout.part(output, "maps", part), maps)
    if len(shadow):
        write_table(_shadow_part(output, part), shadow)
    rows = _with_schema(verdicts, tables.VERDICTS_BY_VERSION[version])
    write_table(output_layout.part(output, "verdicts", part), rows)
    return part


def _with_schema(verdicts: pa.Table, schema: pa.Schema) -> pa.Table:
    return verdicts.select(schema.names).cast(schema)


def _shadow_part(output: str, part: str) -> str:
    return output_layout.part(output_layout.shadow(output), "verdicts", part)


def replace(
    output: str,
    part: str,
    verdicts: pa.Table,
    maps: pa.Table,
    shadow: pa.Table = NO_VERDICTS,
    *,
    version: str,
) -> str:
    """Replace the rows of these images, all of one category, in an existing part.

    The part keeps the version of its schema, so that its other rows keep all their columns. If the
    images are now of another category, their rows move to a part of that category, with the schema
    of ``version``. Returns the part that has the rows.
    """
    (category,) = pc.unique(verdicts["category"]).to_pylist()
    images = verdicts["image"].to_pylist()
    if output_layout.folder_of_part(part) != output_layout.category_folder(category):
        new = write_part(output, verdicts, maps, shadow, version=version)
        remove_rows(output, part, images)
        return new
    _rewrite(output, part, images, verdicts, maps, shadow, version=version)
    return part


def rewrite_verdicts(output: str, part: str, verdicts: pa.Table) -> None:
    """Put other values into the verdicts of a part; ``verdicts`` has its schema."""
    write_table(output_layout.part(output, "verdicts", part), verdicts)


def remove_rows(output: str, part: str, images: Sequence[str]) -> None:
    """Remove the rows of these images from a part, and the part itself if no row is left."""
    none = NO_VERDICTS, tables.MAPS.empty_table(), NO_VERDICTS
    _rewrite(output, part, images, *none, version=tables.VERDICTS_VERSION)


def _rewrite(
    output: str,
    part: str,
    images: Sequence[str],
    verdicts: pa.Table,
    maps: pa.Table,
    shadow: pa.Table,
    *,
    version: str,  # if there is no such part
) -> None:
    others = _other_verdicts(output, part, images, version)
    verdicts = pa.concat_tables([others, _with_schema(verdicts, others.schema)])
    maps = pa.concat_tables([_other_maps(output, part, images), maps])
    # A shadow's old verdict of an image goes with the old verdict, also if there is no new one.
    others_of_shadow = _other_shadows(output, part, images)
    shadow = pa.concat_tables(
        [NO_VERDICTS if others_of_shadow is None else others_of_shadow, shadow]
    )
    if len(maps):
        write_table(output_layout.part(output, "maps", part), maps)
    if len(shadow):
        write_table(_shadow_part(output, part), shadow)
    if len(verdicts):
        write_table(output_layout.part(output, "verdicts", part), verdicts)
    else:
        files.delete(output_layout.part(output, "verdicts", part))
    if not len(maps):
        # Last: were it gone before its verdicts part, these verdicts would have no map.
        files.delete(output_layout.part(output, "maps", part))
    if others_of_shadow is not None and not len(shadow):
        files.delete(_shadow_part(output, part))


def _other_verdicts(output: str, part: str, images: Sequence[str], version: str) -> pa.Table:
    """The verdicts of a part that are not of these images, with the schema of the part."""
    data = _read_part(output, "verdicts", part)
    if data is None:
        return tables.VERDICTS_BY_VERSION[version].empty_table()
    own = tables.verdicts_version(pq.read_schema(pa.BufferReader(data)))
    schema = tables.VERDICTS_BY_VERSION[own or version]
    return _without(pq.read_table(pa.BufferReader(data), schema=schema), images).cast(schema)


def _other_maps(output: str, part: str, images: Sequence[str]) -> pa.Table:
    """The maps of a part that are not of these images."""
    data = _read_part(output, "maps", part)
    if data is None:
        return tables.MAPS.empty_table()
    try:
        return _without(pq.read_table(pa.BufferReader(data), schema=tables.MAPS), images)
    except (pa.ArrowException, OSError):
        return tables.MAPS.empty_table()  # no map of a damaged part can be read: it is replaced


def _other_shadows(output: str, part: str, images: Sequence[str]) -> pa.Table | None:
    """The shadow's verdicts of a part that are not of these images; None if there is no part."""
    data = _read_part(output_layout.shadow(output), "verdicts", part)
    if data is None:
        return None
    try:
        rows = pq.read_table(pa.BufferReader(data), schema=tables.VERDICTS)
        return _without(rows, images).cast(tables.VERDICTS)
    except (pa.ArrowException, OSError):
        return NO_VERDICTS  # a damaged part is replaced


def _read_part(output: str, table: Table, part: str) -> bytes | None:
    """The bytes of a part; None if it is missing."""
    try:
        uri = output_layout.part(output, table, part)
        return files.read_bytes(uri, max_bytes=LARGEST_PART_BYTES)
    except errors.FetchError as failure:
        if failure.error == "missing":
            return None
        raise


def _without(rows: pa.Table, images: Sequence[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["image"], pa.array(images, pa.string()))))


def write_table(uri: str, table: pa.Table) -> None:
    """Write a table as one Parquet file, which appears whole."""
    # Encoded in memory first, so that one write makes the whole file.
    buffer = pa.BufferOutputStream()
    with_map = _MAP in table.column_names
    pq.write_table(table, buffer, compression="zstd", **(_map_encoding(table) if with_map else {}))
    files.write_bytes(uri, buffer.getvalue().to_pybytes())


def _map_encoding(table: pa.Table) -> dict[str, Any]:
    """Of a table with maps, whose values have few significant bits (`detection.stored_map`).

    With the bytes of the values apart, those that are alike lie together: a third fewer bytes, in
    less time than with a dictionary. The higher level of zstd takes another 5 % to 12 %.
    """
    return {
        "column_encoding": {f"{_MAP}.list.element": "BYTE_STREAM_SPLIT"},
        "use_dictionary": [name for name in table.column_names if name != _MAP],
        "compression_level": 3,
    }


def remove_orphans(output: str) -> int:
    """Delete maps and shadow parts without a verdicts part; returns how many maps there were."""
    done = parts(output, "verdicts")
    for part in parts(output_layout.shadow(output), "verdicts") - done:
        files.delete(_shadow_part(output, part))
    orphans = parts(output, "maps") - done
    for part in orphans:
        files.delete(output_layout.part(output, "maps", part))
    return len(orphans)


def parts(output: str, table: Table) -> set[str]:
    """Every part of a table by its name, as CATEGORY FOLDER/NAME."""
    return parts_and_strays(output, table)[0]


def parts_and_strays(output: str, table: Table) -> tuple[set[str], list[str]]:
    """The parts, and sorted paths that are named neither as a part nor as a hidden file."""
    found = list(_files(output, table))
    named = {each for each in found if _is_part(each)}
    others = (each for each in found if each not in named)
    return named, sorted(each for each in others if not each.rpartition("/")[2].startswith("."))


def _is_part(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return bool(folder) and output_layout.is_part(name)


def _files(output: str, table: Table) -> Iterator[str]:
    """Paths of the files in a table's folder and in the folders of its categories."""
    root = output_layout.table(output, table)
    if not files.exists(root):
        return
    for name, is_folder in files.list_children(root).items():
        below = files.list_children(uris.join(root, name)) if is_folder and name else {}
        yield from (f"{name}/{each}" for each, is_deeper in below.items() if not is_deeper)
        if not is_folder:
            yield name
