"""The split file of VisA, which says which of a category's images are for training.

VisA (Zou et al. 2022) as it is published has no folders ``train`` and ``test``: all images of a
category are in DATA/CATEGORY/Data/Images/{Normal,Anomaly}. DATA/split_csv/1cls.csv lists them
with the columns object, split (train or test), label, image and mask; paths are relative to DATA.
Training must take the images of ``train`` alone, or the evaluation would see images again.
"""

import csv
import io
from typing import Final, Literal

from vqad.storage import files, uris
from vqad.storage.errors import FetchError

IMAGES: Final = "Data/Images"  # below DATA/CATEGORY
MASKS: Final = "Data/Masks"
SPLIT_FILE: Final = "split_csv/1cls.csv"  # below DATA
_LARGEST_BYTES: Final = 64 * 2**20

Part = Literal["train", "test"]


def read_split(data: str, category: str) -> dict[str, Part] | None:
    """The part of each image of a category, by its URI; None if there is no split file.

    Raises ValueError if the file lacks a column or has no image of the category.
    """
    uri = uris.join(data, SPLIT_FILE)
    if not files.exists(uri):
        return None
    try:
        text = files.read_bytes(uri, max_bytes=_LARGEST_BYTES).decode()
        rows = [row for row in csv.DictReader(io.StringIO(text)) if row["object"] == category]
        found = {uris.absolute(uris.join(data, row["image"])): _part(row["split"]) for row in rows}
    except (FetchError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(
            f"{uri} must be CSV with the columns object, split and image: {error}"
        ) from error
    if not found:
        raise ValueError(f"{uri} lists no image of {category}; use the split file of this data")
    return found


def _part(text: str) -> Part:
    if text not in ("train", "test"):
        raise ValueError(f"the split of an image must be train or test, got {text!r}")
    return text  # type: ignore[return-value]
