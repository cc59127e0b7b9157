"""Small data sets with test images and masks, and the tables of their inspection."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vqad import tables
from vqad.storage import uris

SHAPE = (12, 10)  # of the maps, height and width
SOURCE_SHAPE = (24, 20)
NAMES = ("crack/0.png", "crack/1.png", "good/0.png")


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write an image file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def mask_pixels(*, value: int = 255, dtype: type = np.uint8) -> np.ndarray:
    """A mask with a square of 4 x 4 pixels."""
    mask = np.zeros(SOURCE_SHAPE, dtype)
    mask[4:8, 4:8] = value
    return mask


def write_tests(data: Path, names: Sequence[str] = NAMES, *, category: str = "part") -> list[str]:
    """Write black test images; returns their URIs."""
    for name in names:
        write_picture(data / category / "test" / name, np.zeros(SOURCE_SHAPE, np.uint8))
    return [uris.absolute(str(data / category / "test" / name)) for name in names]


def write_masks(data: Path, names: Sequence[str], *, category: str = "part") -> None:
    """Write masks with a square each, below the category's ``ground_truth``."""
    for name in names:
        write_picture(data / category / "ground_truth" / name, mask_pixels())


def write_part(
    output: Path,
    images: Sequence[str],
    part: int,
    scores: dict[int, float],
    *,
    category: str = "part",
    rejected: Sequence[str] = (),
) -> None:
    """Write one part of verdicts and maps: ``scores`` by the position of the image.

    The map of an image has its score everywhere.
    """
    common = {
        **dict.fromkeys(tables.VERDICTS.names, ""),
        **dict.fromkeys(("codes_changed", "width_px", "height_px", "source_bytes"), 1),
        **dict.fromkeys(("source_modified_at", "inspected_at"), 0),
        **dict.fromkeys(("p_value", "witnesses", "region_lengths_px", "regions_mm")),
        "category": category,
        "regions": [],
        "model_version": "v",
    }
    rows = [
        common | {"image": images[at], "verdict": "normal", "score": float(score), "threshold": 1.5}
        for at, score in scores.items()
    ]
    rows += [
        common | {"image": image, "verdict": "reject", "score": None, "threshold": None}
        for image in rejected
    ]
    maps = [
        {
            "image": images[at],
            "category": category,
            "model_version": "v",
            "map_height_px": SHAPE[0],
            "map_width_px": SHAPE[1],
            "anomaly_map": np.full(SHAPE[0] * SHAPE[1], score, np.float32),
        }
        for at, score in scores.items()
    ]
    for name, found, schema in (("verdicts", rows, tables.VERDICTS), ("maps", maps, tables.MAPS)):
        folder = output / name / category
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(found, schema=schema)
        pq.write_table(table, folder / f"part-{part}.parquet")
