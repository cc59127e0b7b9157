"""The ledger: which images of an output have a verdict, where it is, and how it was made.

The verdicts table itself is the ledger. Nothing else records what is done. Files that somebody else
put there, and parts that are damaged, are passed over and reported: the images of a damaged part
are inspected again.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vqad import tables
from vqad.inspection import sink
from vqad.storage import errors, files, output_layout, uris

NUM_READERS: Final = 16  # threads
_COLUMNS: Final = ["image", "error", "model_version", "source_etag", "inspected_at"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One image's verdict: where it is and how it was made."""

    part: str  # CATEGORY FOLDER/NAME
    etag: str  # of the image's file when it was inspected
    model_version: str
    error: str
    inspected_at: datetime


@dataclass(kw_only=True)
class Ledger:
    """All verdicts of an output."""

    entries: dict[str, Entry] = field(default_factory=dict)  # by image
    parts: set[str] = field(default_factory=set)  # by name, those that can't be read included
    passed_over: list[str] = field(default_factory=list)  # a line per file, with the reason
    # Older verdicts of images that have two, by part. A run that lost its lease may leave them.
    superseded: dict[str, list[str]] = field(default_factory=dict)
    version: str = tables.VERDICTS_VERSION  # the oldest of a part, in which the output goes on

    def add(self, image: str, entry: Entry) -> None:
        """Add one row; of two rows for one image the older is superseded."""
        other = self.entries.get(image)
        if other is not None:
            older, entry = sorted((other, entry), key=lambda each: (each.inspected_at, each.part))
            self.superseded.setdefault(older.part, []).append(image)
        self.entries[image] = entry


def read(output: str) -> Ledger:
    """Read every verdicts part; raises ArchiveError, also for parts of a newer program."""
    found = {table: sink.parts_and_strays(output, table) for table in output_layout.TABLES}
    strays = {table: paths for table, (_, paths) in found.items()}
    ledger = Ledger(parts=found["verdicts"][0], passed_over=_strays(output, strays))
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for part, rows in pool.map(lambda part: (part, _read(output, part)), sorted(ledger.parts)):
            if isinstance(rows, str):
                uri = output_layout.part(output, "verdicts", part)
                ledger.passed_over.append(f"{uri}: {rows}")
                continue
            version, entries = rows
            ledger.version = min(ledger.version, version, key=int)
            for image, error, model_version, etag, at in _values(entries):
                entry = Entry(
                    part=part,
                    etag=etag,
                    model_version=sys.intern(model_version),  # one string for many rows
                    error=error,
                    inspected_at=at,
                )
                ledger.add(image, entry)
    return ledger


def _strays(output: str, found: dict[output_layout.Table, list[str]]) -> list[str]:
    return [
        f"{uris.join(output_layout.table(output, table), path)}: not a part of a table"
        for table, paths in found.items()
        for path in paths
    ]


def _read(output: str, part: str) -> tuple[str, pa.Table] | str:
    """Version and the ledger's columns of a part, or why it is not a part of the table."""
    uri = output_layout.part(output, "verdicts", part)
    try:
        data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
    except errors.FetchError as failure:
        if failure.error in ("too_large", "missing"):  # "missing": a link to nothing
            return failure.detail
        raise  # the store may be able to read it the next time; its images need no new verdict
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        _check_known(file.schema_arrow, uri)
        version = tables.verdicts_version(file.schema_arrow)
        if version is None:
            return "not a part of verdicts: its columns are others"
        rows = file.read(columns=_COLUMNS).select(_COLUMNS)
        return version, rows.cast(pa.schema([tables.VERDICTS.field(name) for name in _COLUMNS]))
    except errors.ArchiveError:
        raise
    except Exception as error:  # a parser may raise any exception for damaged bytes
        return f"not a readable part of verdicts ({type(error).__name__})"


def _check_known(schema: pa.Schema, uri: str) -> None:
    """Refuse a part of a later version: its rows would lose their new columns if rewritten."""
    recorded = (schema.metadata or {}).get(b"vqad.schema_version", b"")
    if recorded.isdigit() and int(recorded) > int(tables.VERDICTS_VERSION):
        raise errors.ArchiveError(
            f"{uri} has verdicts of version {int(recorded)}, this program knows 1 to "
            f"{tables.VERDICTS_VERSION}; use the program that wrote it, or give another --output"
        )


def _values(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in _COLUMNS), strict=True)


def remove_superseded(output: str, ledger: Ledger) -> int:
    """Remove superseded rows from their parts; returns how many there were."""
    for part, images in ledger.superseded.items():
        sink.remove_rows(output, part, images)
    return sum(map(len, ledger.superseded.values()))
