"""The maps of one part of an output, read when the first is asked for, and replaced in place."""

import numpy as np
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
        self._versions: list[str] = []
        self._changed: dict[int, AnomalyMap] = {}

    def version_of(self, image: str) -> str:
        """The version that made an image's map; "" if there is no map."""
        self._read()
        at = self._at.get(image)
        return "" if at is None else self._versions[at]

    def of(self, image: str) -> AnomalyMap | None:
        """An image's map."""
        table = self._read()
        at = self._at.get(image)
        if at is None:
            return None
        if at in self._changed:
            return self._changed[at]
        height, width = (table[f"map_{name}_px"][at].as_py() for name in ("height", "width"))
        values = table["anomaly_map"][at].values.to_numpy()
        if values.size != height * width or not values.size:
            return None
        return values.reshape(height, width)

    def replace(self, image: str, anomaly_map: AnomalyMap, version: str) -> None:
        """Replace an image's map by one that a version has made."""
        at = self._at[image]
        self._changed[at] = anomaly_map
        self._versions[at] = version

    def changed_table(self) -> pa.Table | None:
        """The table with the maps that were replaced; None if none was."""
        if not self._changed:
            return None
        table = self._read()
        lists = table["anomaly_map"].combine_chunks()
        # Of values in one piece: the lists of a table that was read begin at 0 and follow closely.
        lists = pa.concat_arrays([lists])
        offsets = lists.offsets.to_numpy()
        values = np.array(lists.values.to_numpy())
        for at, anomaly_map in self._changed.items():
            values[offsets[at] : offsets[at + 1]] = anomaly_map.ravel()
        columns = {name: table[name] for name in table.column_names} | {
            "model_version": pa.array(self._versions, pa.string()),
            "anomaly_map": pa.ListArray.from_arrays(lists.offsets, pa.array(values)),
        }
        return pa.table(list(columns.values()), names=list(columns)).cast(tables.MAPS)

    def _read(self) -> pa.Table:
        if self._table is None:
            self._table = _read(self._uri)
            self._at = {image: at for at, image in enumerate(self._table["image"].to_pylist())}
            self._versions = self._table["model_version"].to_pylist()
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
