"""Reading the verdicts and maps of an inspection for evaluation."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32
from numpy import ndarray

from vqad.array_types import OwnMap
from vqad.evaluation import canvas
from vqad.evaluation.canvas import Shape
from vqad.images.placement import Size
from vqad.storage import files, output_layout, uris

_LARGEST_PART_BYTES: Final = 2**31


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """The results of a finished inspection for a category's test images, sorted by image."""

    images: list[str]
    sizes_px: list[Size]  # width and height
    shapes: list[Shape]  # height and width of the maps
    scores: Float[ndarray, " n"]
    maps: Float32[ndarray, "n height width"]  # each in its canvas; see `canvas`
    threshold: float
    model_version: str
    num_rejected: int
    num_missing: int = 0  # test images without a verdict


def read_inspected(output: str, category: str, wanted: Collection[str]) -> Inspected:
    """The wanted images of a category, by URI, in the tables of an output.

    Raises ValueError if none of them was inspected, or if one of those has no map.
    """
    rows = _verdicts(output, category, wanted)
    judged = sorted(
        (row for row in rows if row["verdict"] != "reject"), key=lambda row: row["image"]
    )
    if not judged:
        raise ValueError(
            f"{output} has no verdicts of the {len(wanted)} test images of {category}, such as "
            f"{min(wanted)}; inspect them first"
        )
    version, threshold = _detector_of(judged, output, category)
    maps = _maps(output, category, [row["image"] for row in judged])
    return Inspected(
        images=[row["image"] for row in judged],
        sizes_px=[(row["width_px"], row["height_px"]) for row in judged],
        shapes=[each.shape for each in maps],
        scores=np.array([row["score"] for row in judged], np.float64),
        maps=canvas.stacked(maps),
        threshold=threshold,
        model_version=version,
        num_rejected=len(rows) - len(judged),
        num_missing=len(wanted) - len(rows),
    )


def _verdicts(output: str, category: str, wanted: Collection[str]) -> list[dict[str, Any]]:
    table = read_table(
        output_layout.category_table(output, "verdicts", category),
        ["image", "verdict", "score", "threshold", "model_version", "width_px", "height_px"],
    )
    chosen = set(wanted)
    return [row for row in table.to_pylist() if row["image"] in chosen]


def _detector_of(judged: Sequence[dict[str, Any]], output: str, category: str) -> tuple[str, float]:
    """Version and threshold of the one detector that gave all verdicts."""
    detectors = {(row["model_version"], row["threshold"]) for row in judged}
    if len(detectors) > 1:
        versions = ", ".join(sorted(version for version, _ in detectors))
        raise ValueError(
            f"{output} has verdicts of several {category} detectors ({versions}); "
            "inspect into a new folder"
        )
    ((version, threshold),) = detectors
    return version, float(threshold)


def check_tables(output: str, category: str) -> None:
    """Raise ValueError if an output has no verdicts of a category."""
    _parts(output_layout.category_table(output, "verdicts", category))


def _parts(uri: str) -> list[str]:
    names = files.list_names(uri) if files.exists(uri) else []
    parts = [name for name in names if output_layout.is_part(name)]
    if not parts:
        raise ValueError(f"no tables in {uri}; inspect the category first")
    return parts


def read_table(uri: str, columns: Sequence[str]) -> pa.Table:
    """All parts of one category's table. Raises ValueError where there are none.

    Damaged parts and files with other columns are passed over, as the inspection does and reports.
    """
    parts = [_read_part(uris.join(uri, name), columns) for name in _parts(uri)]
    return pa.concat_tables(parts, promote_options="permissive")


def _read_part(uri: str, columns: Sequence[str]) -> pa.Table:
    """The columns of a part; no columns and no rows if it is not a part of the table."""
    data = files.read_bytes(uri, max_bytes=_LARGEST_PART_BYTES)
    try:
        return pq.read_table(pa.BufferReader(data), columns=list(columns)).select(list(columns))
    except (KeyError, OSError, pa.ArrowException):
        return pa.table({name: pa.nulls(0) for name in columns})


def _maps(output: str, category: str, wanted: Sequence[str]) -> list[OwnMap]:
    """Maps of the wanted images in their order, read part by part."""
    uri = output_layout.category_table(output, "maps", category)
    maps: dict[str, OwnMap] = {}
    missing = set(wanted)
    names = files.list_names(uri) if files.exists(uri) else []
    for name in filter(output_layout.is_part, names):
        columns = ["image", "map_height_px", "map_width_px", "anomaly_map"]
        part = _read_part(uris.join(uri, name), columns)
        for row, image in enumerate(part["image"].to_pylist()):
            if image not in missing:
                continue
            shape = part["map_height_px"][row].as_py(), part["map_width_px"][row].as_py()
            # A copy: what Arrow gives is a view that keeps the maps of the whole part in memory.
            maps[image] = part["anomaly_map"][row].values.to_numpy().reshape(shape).copy()
            missing.discard(image)
    if missing:
        raise ValueError(f"no anomaly map of {min(missing)} in {uri}; inspect with --maps all")
    return [maps.pop(image) for image in wanted]
