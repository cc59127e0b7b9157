"""The maps of one part of an output, read when the first is asked for."""

import pyarrow as pa
import pyarrow.parquet as pq

from vqad import tables
from vqad.array_types import AnomalyMap
from vqad.inspection import sink
from vqad.storage import errors, files, output_layout


class PartMaps:
    """The maps of a part, by image. A part that is missing or damaged has none."""

    def __init__(self, output: str, part: str) -> None:
        self._uri = output_layout.part(output, "maps", part)
        self._table: pa.Table | None = None
        self._at: dict[str, int] = {}

    def of(self, image: str) -> AnomalyMap | None:
        """An image's map."""
        table = self._read()
        at = self._at.get(image)
        if at is None:
            return None
        height, width = (table[f"map_{name}_px"][at].as_py() for name in ("height", "width"))
        values = table["anomaly_map"][at].values.to_numpy()
        if values.size != height * width or not values.size:
            return None
        return values.reshape(height, width)

    def _read(self) -> pa.Table:
        if self._table is None:
            self._table = _read(self._uri)
            self._at = {image: at for at, image in enumerate(self._table["image"].to_pylist())}
        return self._table


def _read(uri: str) -> pa.Table:
    try:
        data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
    except errors.FetchError as failure:
        if failure.error == "missing":
            return tables.MAPS.empty_table()
        raise
    try:
        return pq.read_table(pa.BufferReader(data), schema=tables.MAPS).combine_chunks()
    except (pa.ArrowException, OSError, KeyError):
        return tables.MAPS.empty_table()  # no map of a damaged part can be read
