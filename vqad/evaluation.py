"""Verdicts and maps of a finished output against ground truth in MVTec AD's layout (4.2).

It reads tables and masks, nothing else: no detector is loaded, so no label can reach one. Metrics
are taken at the resolution of the maps, the model's input; masks are brought to it by the nearest
pixel. One category is in memory at a time.
"""

from collections.abc import Sequence
from dataclasses import asdict
from posixpath import dirname, splitext
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vqad import archives, images, metrics
from vqad.tables import category_folder

_LARGEST_PART_BYTES = 2**31


def evaluate(data: str, output: str, categories: Sequence[str]) -> dict[str, Any]:
    """Metrics of each category and their mean, of the test images in an output's tables.

    Raises ValueError where an output has no test image of a category, or lacks its map.
    """
    by_category = {each: evaluate_category(data, output, each) for each in categories}
    mean = metrics.mean(list(by_category.values()))
    return {
        "mean": asdict(mean),
        "categories": {category: asdict(found) for category, found in by_category.items()},
    }


def evaluate_category(data: str, output: str, category: str) -> metrics.Metrics:
    """Metrics of one category's test images."""
    folder = category_folder(category)
    root = archives.absolute(archives.join(data, category, "test"))
    verdicts = read_table(
        archives.join(output, "verdicts", folder), ["image", "verdict", "score", "threshold"]
    )
    maps = read_table(
        archives.join(output, "maps", folder),
        ["image", "map_height_px", "map_width_px", "anomaly_map"],
    )
    by_image = {row: at for at, row in enumerate(maps["image"].to_pylist())}
    rows = [
        row
        for row in verdicts.to_pylist()
        if row["image"].startswith(f"{root}/") and row["verdict"] != "reject"
    ]
    if not rows:
        raise ValueError(f"no verdicts of {root} in {output}")
    found = [_map(maps, by_image, row["image"]) for row in rows]
    size = found[0].shape
    masks = [_mask(data, category, row["image"], root, size) for row in rows]
    return metrics.evaluate(
        np.array([row["score"] for row in rows]),
        np.array([_defect(row["image"], root) != "good" for row in rows]),
        np.stack(found),
        np.stack(masks),
        threshold=float(rows[0]["threshold"]),
    )


def read_table(uri: str, columns: Sequence[str]) -> pa.Table:
    """All parts of one category's table. Raises ValueError where there are none."""
    names = archives.list_names(uri) if archives.exists(uri) else []
    parts = [name for name in names if name.endswith(".parquet")]
    if not parts:
        raise ValueError(f"no tables in {uri}; inspect the category first")
    return pa.concat_tables(
        [
            pq.read_table(
                pa.BufferReader(
                    archives.read_bytes(archives.join(uri, name), max_bytes=_LARGEST_PART_BYTES)
                ),
                columns=list(columns),
            )
            for name in parts
        ]
    )


def _map(maps: pa.Table, by_image: dict[str, int], image: str) -> np.ndarray:
    if image not in by_image:
        raise ValueError(f"no anomaly map of {image}; inspect with --maps all")
    row = maps.slice(by_image[image], 1)
    flat = row["anomaly_map"].chunk(0).flatten().to_numpy()
    return flat.reshape(row["map_height_px"][0].as_py(), row["map_width_px"][0].as_py())


def _defect(image: str, root: str) -> str:
    return archives.relative(image, root).partition("/")[0]


def _mask(data: str, category: str, image: str, root: str, size: tuple[int, ...]) -> np.ndarray:
    path = archives.relative(image, root)
    if _defect(image, root) == "good":
        return np.zeros(size, bool)
    stem = splitext(path.rpartition("/")[2])[0]
    uri = archives.join(data, category, "ground_truth", dirname(path), f"{stem}_mask.png")
    try:
        encoded = archives.read_bytes(uri, max_bytes=images.MAX_BYTES)
    except archives.FetchError as error:
        raise ValueError(f"no mask for {image}: {uri}: {error}") from error
    mask = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"mask {uri} is no picture")
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST) > 127
