"""Masks as PNG: one picture per image, white where its regions are."""

import csv
import io
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from vqad.export.names import folder_name, mask_name
from vqad.export.rows import Exported
from vqad.storage import files, uris

INDEX: Final = "masks.csv"
_COLUMNS: Final = ("image", "category", "verdict", "score", "mask")
_NUM_WRITERS: Final = 8  # threads, for the time that a store needs to answer


def write(
    folder: str,
    batches: Iterable[list[Exported]],
    archive: str,  # noqa: ARG001 - names of masks don't depend on it
) -> dict[str, int]:
    """Write a mask for each image whose regions are known, and the list of all masks.

    The list is written last: a folder that has one is complete. Returns counts for the summary.
    """
    counts = {"images": 0, "masks": 0, "without_map": 0}
    with (
        tempfile.TemporaryFile() as index,
        ThreadPoolExecutor(_NUM_WRITERS) as pool,
    ):
        index.write(_lines([_COLUMNS]))
        for batch in batches:
            known = [each for each in batch if each.masks is not None]
            # Each batch ends before the next begins, so that no more than its masks wait.
            names = list(pool.map(lambda each: _write_one(folder, each), known))
            index.write(_lines(map(_line, known, names)))
            counts["images"] += len(batch)
            counts["masks"] += len(known)
            counts["without_map"] += len(batch) - len(known)
        files.write_file(uris.join(folder, INDEX), index)
    return counts


def _write_one(folder: str, exported: Exported) -> str:
    row = exported.row
    name = f"{folder_name(row['category'])}/{mask_name(row['image'])}"
    picture = cv2.imencode(".png", drawn(exported))[1]
    files.write_bytes(uris.join(folder, name), picture.tobytes())
    return name


def drawn(exported: Exported) -> UInt8[ndarray, "height width"]:
    """The mask in the size of the image, 255 where a region is and 0 elsewhere."""
    row = exported.row
    picture = np.zeros((row["height_px"], row["width_px"]), np.uint8)
    for mask in exported.masks or ():
        picture[mask.box][mask.pixels()] = 255
    return picture


def _line(exported: Exported, name: str) -> list[Any]:
    return [*(exported.row[column] for column in _COLUMNS[:-1]), name]


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
