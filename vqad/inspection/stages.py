"""The stages of an inspection: fetch and decode, inspect, write. Tables in, tables out.

Each stage can be called by hand, and called again with the same rows. A table is one unit of work:
its images are decoded, inspected and written together, and become one part per category. The stage
between these two is in `inspector`: without it this module needs no torch, and processes that
decode and write start in half the time.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad import tables
from vqad.images import decoding, headers, memory
from vqad.images.measures import MEASURES
from vqad.images.placement import ImageForm
from vqad.inspection import shadow_rows, sink
from vqad.inspection.array_columns import table_of
from vqad.inspection.work import TODO
from vqad.storage import errors, files, lease

DECODED = pa.schema(
    [
        *TODO,
        ("pixels", pa.large_binary()),  # RGB, size x size x 3, row by row; null where rejected
        ("bits", pa.int32()),  # per channel: 8 or 16
        tables.VERDICTS.field("width_px"),
        tables.VERDICTS.field("height_px"),
        tables.VERDICTS.field("error"),
        tables.VERDICTS.field("error_detail"),
        ("fetch_seconds", pa.float32()),  # for this image
        ("decode_seconds", pa.float32()),
        (
            "data",
            pa.large_binary(),
        ),  # of a member whose image the inspector reads; see `whole_rows`
    ]
)
INSPECTED = pa.schema(
    [
        *tables.VERDICTS,
        TODO.field("part"),
        DECODED.field("fetch_seconds"),
        DECODED.field("decode_seconds"),
        ("inspect_seconds", pa.float32()),  # this image's share of its batch
        ("map_height_px", pa.int32()),
        ("map_width_px", pa.int32()),
        ("anomaly_map", tables.MAPS.field("anomaly_map").type),
        # For the statistics of the night; null for a reject.
        *((name, pa.float32()) for name in MEASURES),
        ("code_counts", pa.large_binary()),  # uint32: how often the image has each code
        ("shadow", shadow_rows.SHADOW),  # of a second detector; null where there is none
    ]
)


def decode(listed: pa.Table, *, forms: dict[str, ImageForm], num_threads: int = 8) -> pa.Table:
    """Fetch and decode the images of a unit of ``TODO``; a failure becomes a row with its error."""
    rows = listed.to_pylist()
    with ThreadPoolExecutor(num_threads) as pool:
        decoded = list(pool.map(lambda row: _decode_one(row, forms), rows))
    return table_of([row | one for row, one in zip(rows, decoded, strict=True)], DECODED)


def _decode_one(row: dict[str, Any], forms: dict[str, ImageForm]) -> dict[str, Any]:
    if row["category"] not in forms:  # such an image is not fetched
        return decode_bytes(b"", row["category"], forms)
    if forms[row["category"]].tiling:
        return later()
    with memory.READING.reserved(min(row["source_bytes"], decoding.MAX_BYTES)):
        start_s = time.monotonic()
        try:
            data = files.read_bytes(row["image"], max_bytes=decoding.MAX_BYTES)
        except errors.FetchError as error:
            return rejected(error.error, error.detail)
        fetched_s = time.monotonic() - start_s
        return decode_bytes(data, row["category"], forms) | {"fetch_seconds": fetched_s}


def decode_bytes(data: bytes, category: str, forms: dict[str, ImageForm]) -> dict[str, Any]:
    """The columns of ``DECODED`` that decoding adds to a row."""
    if category not in forms:
        is_known = category != tables.UNKNOWN_CATEGORY
        detail = f"no detector for {category}" if is_known else "the category cannot be told"
        return rejected("unknown_category", detail)
    if forms[category].tiling:
        return later(data)
    start_s = time.monotonic()
    try:
        decoded = decoding.decode_as(forms[category], data)
    except headers.ImageError as error:
        return rejected(error.error, error.detail)
    return {
        "pixels": decoded.pixels,
        "bits": decoded.pixels.dtype.itemsize * 8,
        "width_px": decoded.source_width_px,
        "height_px": decoded.source_height_px,
        "error": "",
        "error_detail": "",
        "fetch_seconds": 0.0,
        "decode_seconds": time.monotonic() - start_s,
    }


def later(data: bytes | None = None) -> dict[str, Any]:
    """The columns that decoding adds to a row that is read later; ``data`` are a member's bytes."""
    return {
        "data": data,
        "error": "",
        "error_detail": "",
        "fetch_seconds": 0.0,
        "decode_seconds": 0.0,
    }


def rejected(error: str, detail: str) -> dict[str, Any]:
    """The same columns for an image without pixels."""
    return {"error": error, "error_detail": detail, "fetch_seconds": 0.0, "decode_seconds": 0.0}


# The columns that a summary counts; here `part` is where the row was written.
_COUNTED: Final = ["image", "category", "verdict", "score", "threshold", "error", "part"]
_TIMED: Final = ["fetch_seconds", "decode_seconds", "inspect_seconds"]
# The columns that `night_statistics` adds up.
_MEASURED: Final = [*MEASURES, "code_counts"]


def write(inspected: pa.Table, *, output: str, version: str, holder: str = "") -> pa.Table:
    """Write a unit's rows; returns the columns that the summary and its statistics count.

    ``version`` is that of the schema of new verdicts parts; a part that is there keeps its own.
    Raises LeaseLostError if ``holder`` no longer has the lease on the output; "" checks nothing.
    """
    start_s = time.monotonic()
    if holder:
        lease.confirm(output, holder)
    keys = inspected.group_by(["category", "part"]).aggregate([]).to_pylist()
    # The usual unit has one key, and its maps need no copy.
    parts = [inspected] if len(keys) == 1 else [_rows_of(inspected, key) for key in keys]
    done = pa.concat_tables([_write_rows(each, output, version) for each in parts])
    share_s = (time.monotonic() - start_s) / max(1, len(done))
    return done.append_column("write_seconds", pa.array([share_s] * len(done), pa.float32()))


def _rows_of(inspected: pa.Table, key: dict[str, str]) -> pa.Table:
    return inspected.filter(
        pc.and_(*(pc.equal(inspected[name], value) for name, value in key.items()))
    )


def _write_rows(rows: pa.Table, output: str, version: str) -> pa.Table:
    """Write rows of one category and one old part; returns their columns for the summary."""
    part = _write(output, rows["part"][0].as_py(), rows, version)
    parts = pa.array([part] * len(rows), pa.string())
    counted = rows.select([*_COUNTED, *_TIMED, *_MEASURED])
    counted = counted.set_column(_COUNTED.index("part"), TODO.field("part"), parts)
    # Null where there is no shadow, or where it could not judge.
    return counted.append_column("shadow_verdict", pc.struct_field(rows["shadow"], "verdict"))


def _write(output: str, part: str, rows: pa.Table, version: str) -> str:
    verdicts = rows.select(tables.VERDICTS.names).cast(tables.VERDICTS)
    has_all = not rows["anomaly_map"].null_count
    with_map = rows if has_all else rows.filter(rows["anomaly_map"].is_valid())
    maps = with_map.select(tables.MAPS.names).cast(tables.MAPS)
    second = shadow_rows.verdicts_of(rows)
    if part:
        return sink.replace(output, part, verdicts, maps, second, version=version)
    return sink.write_part(output, verdicts, maps, second, version=version)
