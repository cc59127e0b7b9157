"""The stages of an inspection: fetch and decode, inspect, write. Tables in, tables out.

Each stage can be called by hand, and called again with the same rows. A table is one unit of work:
its images are decoded, inspected and written together, and become one part per category.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import torch

from vqad import tables
from vqad.detection.weights import DetectorError
from vqad.detection.whole_images import looks_and_counts
from vqad.detector import Detector
from vqad.images import decoding, headers, memory
from vqad.images.appearance import MEASURES
from vqad.images.placement import ImageForm
from vqad.images.tensors import filled
from vqad.inspection import shadow, sink, whole_rows
from vqad.inspection.array_columns import rows_of, table_of
from vqad.inspection.batches import batch_of, chunks, measured, sources_of
from vqad.inspection.detector_cache import DetectorCache
from vqad.inspection.plan import TODO
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
        ("shadow", shadow.SHADOW),  # of a second detector; null where there is none
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
        return whole_rows.later()
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
        return whole_rows.later(data)
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


def rejected(error: str, detail: str) -> dict[str, Any]:
    """The same columns for an image without pixels."""
    return {"error": error, "error_detail": detail, "fetch_seconds": 0.0, "decode_seconds": 0.0}


@dataclass(frozen=True, kw_only=True)
class InspectorOptions:
    """The settings of a run that its inspectors need."""

    models: str  # URI
    versions: dict[str, str]  # of the pinned detector, by category
    run: str
    batch_size: int  # images
    maps: str  # as in InspectJob
    num_threads: int  # of torch
    shadows: dict[str, str] = field(default_factory=dict)  # versions of second detectors


class Inspector:
    """Inspects decoded images of any category."""

    def __init__(self, options: InspectorOptions) -> None:
        torch.set_num_threads(options.num_threads)
        self.options = options
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.detectors = DetectorCache(options.models, options.versions, device)
        self.shadows = DetectorCache(options.models, options.shadows, device)

    def inspect(self, decoded: pa.Table) -> pa.Table:
        """Verdict rows, each with its map, or null where no map is to be written."""
        rows = list(rows_of(decoded))
        result = [self._reject(row) for row in rows if row["error"]]
        decoded_rows = [row for row in rows if not row["error"]]
        decoded_rows.sort(key=lambda row: row["category"])
        for category, group in groupby(decoded_rows, key=lambda row: row["category"]):
            if self.detectors.get(category).settings.tiling:
                result += [self._inspect_whole(category, row) for row in group]
                continue
            for batch in chunks(list(group), self.options.batch_size):
                result += self._inspect(category, batch)
        return table_of(result, INSPECTED)

    def _inspect(self, category: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        start_s = time.monotonic()
        detector = self.detectors.get(category)
        sources = sources_of(rows)
        placements = detector.geometry.placements(len(rows), sources)
        batch = filled(batch_of(rows, detector.settings), placements)
        found = detector.inspect(batch, sources)
        looks = measured(batch, found.codes, detector.settings.vqvae.num_codes)
        shadows = self._shadows(category, rows)
        result = [
            self._row(row, detector, found, at) | looks[at] | {"shadow": shadows[at]}
            for at, row in enumerate(rows)
        ]
        share_s = (time.monotonic() - start_s) / len(rows)
        return [row | {"inspect_seconds": share_s} for row in result]

    def _inspect_whole(self, category: str, row: dict[str, Any]) -> dict[str, Any]:
        """An image with tiles, which is read here: one such image is in memory at a time."""
        detector, batch_size = self.detectors.get(category), self.options.batch_size
        assert detector.settings.tiling is not None
        opened = whole_rows.opened(row, detector.settings.tiling)
        row, image = opened.row, opened.image
        if image is None:
            return self._reject(row)
        start_s = time.monotonic()
        found, whole = detector.inspect_whole(image, batch_size=batch_size)
        second = None
        if category in self.options.shadows:
            second = whole_rows.shadow_of(row, self.shadows.get(category), image, batch_size)
        return {
            **self._row(row, detector, found, 0),
            **looks_and_counts(whole, detector.settings.vqvae.num_codes),
            "shadow": second,
            "inspect_seconds": time.monotonic() - start_s,
        }

    def _row(self, row: dict[str, Any], detector: Detector, found: Any, at: int) -> dict[str, Any]:
        anomaly_map = found.anomaly_maps[at]
        maps = self.options.maps
        keep = maps == "all" or (maps == "defect" and found.verdicts[at] == "defect")
        return self._common(row) | {
            **shadow.judged(row, detector, found, at),
            "map_height_px": anomaly_map.shape[0],
            "map_width_px": anomaly_map.shape[1],
            "anomaly_map": anomaly_map if keep else None,
        }

    def _shadows(
        self, category: str, rows: list[dict[str, Any]]
    ) -> Sequence[dict[str, Any] | None]:
        """The shadow's verdict of each row; None where the category has no shadow."""
        if category not in self.options.shadows:
            return [None] * len(rows)
        try:
            detector = self.shadows.get(category)
            found = detector.inspect(batch_of(rows, detector.settings), sources_of(rows))
        except DetectorError:
            return [None] * len(rows)  # the summary counts them, and the night goes on
        return [shadow.judged(row, detector, found, at) for at, row in enumerate(rows)]

    def _reject(self, row: dict[str, Any]) -> dict[str, Any]:
        category = row["category"]
        own = shadow.rejected(self.options.versions.get(category, ""))
        version = self.options.shadows.get(category)
        second = {"shadow": version and shadow.rejected(version)}
        return self._common(row) | own | second | {"inspect_seconds": 0.0}

    def _common(self, row: dict[str, Any]) -> dict[str, Any]:
        common = {name: row[name] for name in INSPECTED.names if name in row}
        return common | {"inspected_at": datetime.now(UTC), "run": self.options.run}


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
    second = shadow.verdicts_of(rows)
    if part:
        return sink.replace(output, part, verdicts, maps, second, version=version)
    return sink.write_part(output, verdicts, maps, second, version=version)
