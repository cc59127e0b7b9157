"""Where an inspection's rows land: maps parts, verdicts parts, and what is there already.

A part is named after the images in it, so that writing it again replaces it. The maps land before
the verdicts; a verdicts part that exists is whole, and says that its images are done. A maps part
without its verdicts part is what an interrupted run left, and is removed by the next.
"""

import hashlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad import archives, tables


def write_part(output: str, verdicts: pa.Table, maps: pa.Table) -> None:
    """Write the rows of one category as one maps part and one verdicts part."""
    (category,) = pc.unique(verdicts["category"]).to_pylist()
    name = _part_name(verdicts["image"].to_pylist())
    folder = tables.category_folder(category)
    if len(maps):
        _write(archives.join(output, "maps", folder, name), maps)
    _write(archives.join(output, "verdicts", folder, name), verdicts)


def _part_name(images: Iterable[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()
    return f"part-{digest[:24]}.parquet"


def _write(uri: str, table: pa.Table) -> None:
    # In memory first: the file appears whole or not at all, on a disk as on object storage.
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    archives.write_bytes(uri, buffer.getvalue().to_pybytes())


def done_images(output: str) -> set[str]:
    """URIs of all images that have a verdict in this output."""
    done: set[str] = set()
    for _, uri in _parts(output, "verdicts"):
        data = archives.read_bytes(uri, max_bytes=_LARGEST_PART_BYTES)
        column = pq.read_table(pa.BufferReader(data), columns=["image"])["image"]
        done.update(column.to_pylist())
    return done


def remove_orphans(output: str) -> int:
    """Delete maps parts that have no verdicts part; returns how many there were."""
    whole = {part for part, _ in _parts(output, "verdicts")}
    orphans = [uri for part, uri in _parts(output, "maps") if part not in whole]
    for uri in orphans:
        archives.delete(uri)
    return len(orphans)


_LARGEST_PART_BYTES = 2**31


def _parts(output: str, table: str) -> list[tuple[tuple[str, str], str]]:
    """((category folder, name), URI) of every part of a table."""
    found = []
    root = archives.join(output, table)
    for folder in _names(root):
        for name in _names(archives.join(root, folder)):
            if name.startswith("part-") and name.endswith(".parquet"):
                found.append(((folder, name), archives.join(root, folder, name)))
    return found


def _names(uri: str) -> list[str]:
    return archives.list_names(uri) if archives.exists(uri) else []
