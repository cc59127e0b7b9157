"""The anomaly maps of single images, found in the maps table without reading all of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqad.array_types import AnomalyMap
from vqad.inspection import sink
from vqad.storage import files, output_layout
from vqad.storage.errors import FetchError

_ROWS_AT_ONCE: Final = 8  # of a part: 2 MB of maps of 256 x 256 pixels
_COLUMNS: Final = ["image", "map_height_px", "map_width_px", "anomaly_map"]


def read(output: str, rows: Sequence[dict[str, Any]]) -> dict[str, AnomalyMap]:
    """The maps of these verdict rows by image; images without a map are left out.

    A map lies in the part that has the name of its verdict's part, so only these parts are read,
    and each to its last wanted row.
    """
    wanted: dict[str, set[str]] = {}
    for row in rows:
        wanted.setdefault(row["part"], set()).add(row["image"])
    return {
        image: anomaly_map
        for part, images in wanted.items()
        for image, anomaly_map in of_part(output, part, images)
    }


def of_part(output: str, part: str, images: set[str]) -> Iterator[tuple[str, AnomalyMap]]:
    """Yield the maps of these images of a part, a few of them in memory at a time.

    Images without a map, and all of a damaged part, are left out.
    """
    try:
        uri = output_layout.part(output, "maps", part)
        data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
        file = pq.ParquetFile(pa.BufferReader(data))
        left = images & set(file.read(columns=["image"])["image"].to_pylist())
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=_COLUMNS)
        while left:
            batch = next(batches)
            found = batch.filter(pc.is_in(batch["image"], pa.array(list(left), pa.string())))
            yield from (_map(found, at) for at in range(len(found)))
            left -= set(found["image"].to_pylist())
    except (FetchError, OSError, KeyError, ValueError, pa.ArrowException):
        return  # no maps were written, or the part is damaged: the card says that it has none


def _map(rows: pa.RecordBatch, at: int) -> tuple[str, AnomalyMap]:
    shape = rows["map_height_px"][at].as_py(), rows["map_width_px"][at].as_py()
    if min(shape) < 1:
        raise ValueError(f"a map must have pixels, got {shape}")
    values = rows["anomaly_map"][at].values.to_numpy().astype(np.float32)
    return rows["image"][at].as_py(), values.reshape(shape)
