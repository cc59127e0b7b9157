"""COCO JSON: all images of an output, and their regions as annotations.

The file is put together from two temporary files, one of images and one of annotations, so that
memory doesn't grow with the output.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable
from io import BufferedIOBase
from typing import Any, Final

from vqad.export.names import file_name
from vqad.export.polygons import polygon
from vqad.export.rows import Exported, Row
from vqad.export.source_masks import SourceMask
from vqad.storage import files, uris

FILE: Final = "coco.json"
# Keys of an image that are columns of its verdict row.
_COLUMNS: Final = ("image", "category", "verdict", "score", "threshold", "model_version", "run")


def write(folder: str, batches: Iterable[list[Exported]], archive: str) -> dict[str, int]:
    """Write one file with all images; returns counts for the summary.

    The names of the images are paths below ``archive``.
    """
    with tempfile.TemporaryFile() as images, tempfile.TemporaryFile() as annotations:
        made = _Entries(images, annotations, archive)
        for batch in batches:
            for each in batch:
                made.add(each)
        with tempfile.TemporaryFile() as whole:
            whole.write(b'{"info": {"description": "vqad export"}, "licenses": [],\n"images": [\n')
            _append(whole, images)
            whole.write(b'\n],\n"annotations": [\n')
            _append(whole, annotations)
            whole.write(b'\n],\n"categories": ' + json.dumps(made.categories()).encode() + b"}\n")
            files.write_file(uris.join(folder, FILE), whole)
    return made.counts


def _append(whole: BufferedIOBase, part: BufferedIOBase) -> None:
    part.seek(0)
    shutil.copyfileobj(part, whole)


class _Entries:
    """Numbers images, annotations and categories from 1, and writes them as lines of JSON."""

    def __init__(self, images: BufferedIOBase, annotations: BufferedIOBase, archive: str) -> None:
        self.images, self.annotations, self.archive = images, annotations, archive
        self.ids: dict[str, int] = {}  # by product
        self.counts = {"images": 0, "annotations": 0, "without_map": 0}

    def add(self, exported: Exported) -> None:
        row, masks = exported.row, exported.masks
        category_id = self.ids.setdefault(row["category"], len(self.ids) + 1)
        self.counts["images"] += 1
        self.counts["without_map"] += masks is None
        image_id = self.counts["images"]
        _write(self.images, image_id, _image(image_id, row, self.archive))
        for at, region in enumerate(row["regions"]):
            self.counts["annotations"] += 1
            number = self.counts["annotations"]
            ids = {"id": number, "image_id": image_id, "category_id": category_id}
            found = _annotation(row, region, masks[at] if masks else None)
            _write(self.annotations, number, ids | found | _lengths(row, at))

    def categories(self) -> list[dict[str, Any]]:
        return [
            {"id": number, "name": f"{product}/defect", "supercategory": product}
            for product, number in self.ids.items()
        ]


def _write(file: BufferedIOBase, number: int, entry: dict[str, Any]) -> None:
    file.write((",\n" if number > 1 else "").encode() + json.dumps(entry).encode())


def _image(image_id: int, row: Row, archive: str) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": file_name(row["image"], archive),
        "width": row["width_px"],
        "height": row["height_px"],
        **{name: row[name] for name in _COLUMNS},
    }


def _lengths(row: Row, at: int) -> dict[str, float]:
    """Length and size in millimetres of one region, where its row has them."""
    pixels, millimetres = row["region_lengths_px"], row["regions_mm"]
    found = {} if pixels is None else {"length_px": pixels[at]}
    return found | ({} if millimetres is None else millimetres[at])


def _annotation(row: Row, region: dict[str, Any], mask: SourceMask | None) -> dict[str, Any]:
    """One region. Without its mask it has no key ``segmentation``, and the area of its row."""
    known = {"segmentation": [polygon(mask)], "area": mask.area_px} if mask else {}
    return {
        "bbox": [region[f"{side}_px"] for side in ("x", "y", "width", "height")],
        "area": region["area_px"],
        "iscrowd": 0,
        "score": row["score"],
        "peak": region["peak"],
        **known,
    }
