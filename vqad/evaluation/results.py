"""Reading the verdicts and maps of an inspection for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32
from numpy import ndarray

from vqad.evaluation.ground_truth import root_of_tests
from vqad.storage import files, output_layout, uris

_LARGEST_PART_BYTES = 2**31


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What a finished inspection says of a category's test images, sorted by image."""

    images: list[str]
    scores: Float[ndarray, " n"]
    maps: Float32[ndarray, "n height width"]
    threshold: float
    model_version: str
    num_rejected: int


def read_inspected(data: str, output: str, category: str) -> Inspected:
    """A category's test images in the tables of an output.

    Raises ValueError where there is none, or one without its map.
    """
    root = root_of_tests(data, category)
    verdicts = read_table(
        output_layout.category_table(output, "verdicts", category),
        ["image", "verdict", "score", "threshold", "model_version"],
    )
    rows = [row for row in verdicts.to_pylist() if row["image"].startswith(f"{root}/")]
    judged = sorted(
        (row for row in rows if row["verdict"] != "reject"), key=lambda row: row["image"]
    )
    if not judged:
        raise ValueError(f"no verdicts of {root} in {output}")
    ways = {(row["model_version"], row["threshold"]) for row in judged}
    if len(ways) > 1:
        versions = ", ".join(sorted(version for version, _ in ways))
        raise ValueError(
            f"{output} holds verdicts of several {category} detectors ({versions}); "
            "inspect into a new folder"
        )
    ((version, threshold),) = ways
    return Inspected(
        images=[row["image"] for row in judged],
        scores=np.array([row["score"] for row in judged], np.float64),
        maps=_maps(output, category, [row["image"] for row in judged]),
        threshold=float(threshold),
        model_version=version,
        num_rejected=len(rows) - len(judged),
    )


def read_table(uri: str, columns: Sequence[str]) -> pa.Table:
    """All parts of one category's table. Raises ValueError where there are none."""
    names = files.list_names(uri) if files.exists(uri) else []
    parts = [name for name in names if name.endswith(".parquet")]
    if not parts:
        raise ValueError(f"no tables in {uri}; inspect the category first")
    return pa.concat_tables([_read_part(uris.join(uri, name), columns) for name in parts])


def _read_part(uri: str, columns: Sequence[str]) -> pa.Table:
    data = files.read_bytes(uri, max_bytes=_LARGEST_PART_BYTES)
    return pq.read_table(pa.BufferReader(data), columns=list(columns))


def _maps(output: str, category: str, wanted: Sequence[str]) -> Float32[ndarray, "n height width"]:
    """Maps of the wanted images in their order, read part by part."""
    uri = output_layout.category_table(output, "maps", category)
    at = {image: position for position, image in enumerate(wanted)}
    maps: ndarray | None = None
    missing = set(wanted)
    names = files.list_names(uri) if files.exists(uri) else []
    for name in (name for name in names if name.endswith(".parquet")):
        columns = ["image", "map_height_px", "map_width_px", "anomaly_map"]
        part = _read_part(uris.join(uri, name), columns)
        for row, image in enumerate(part["image"].to_pylist()):
            if image not in missing:
                continue
            shape = part["map_height_px"][row].as_py(), part["map_width_px"][row].as_py()
            if maps is None:
                maps = np.empty((len(wanted), *shape), np.float32)
            maps[at[image]] = part["anomaly_map"][row].values.to_numpy().reshape(shape)
            missing.discard(image)
    if maps is None or missing:
        raise ValueError(f"no anomaly map of {min(missing)} in {uri}; inspect with --maps all")
    return maps
