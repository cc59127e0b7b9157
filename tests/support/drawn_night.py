"""The output of an inspection, made by hand: drawn pictures, verdicts and maps, no detector."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from vqad import tables
from vqad.images import listing
from vqad.inspection import sink
from vqad.report import cards, contents, page
from vqad.report.job import ReportJob
from vqad.report.survey import Survey, survey
from vqad.storage import files, output_layout, uris

RUN = "20261122T231230Z-57f9ffbd"
OLDER_RUN = "20261121T231230Z-00000001"
THRESHOLD = 20.0
SIZE_PX = (60, 40)  # width and height of the pictures
MAP_SHAPE = (32, 32)
NUM_BOLTS = 130  # of the page in a browser: more than a page of cards has
HOSTILE = "<img src=x onerror=alert(1)>.png"
AT = datetime(2026, 11, 22, 23, 13, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a night; a score of None is a reject."""

    name: str  # CATEGORY/FILE
    score: float | None
    run: str = RUN

    @property
    def verdict(self) -> str:
        """By the threshold."""
        if self.score is None:
            return "reject"
        return "defect" if self.score > THRESHOLD else "normal"


def images(num_bolts: int = 12) -> list[Image]:
    """Two categories: bolts with scores from 2 to 40, nuts with odd names and a reject each."""
    bolts = [
        Image(name=f"bolt/{at:03}.png", score=40 - 38 * at / max(1, num_bolts - 1))
        for at in range(num_bolts)
    ]
    nuts = [
        Image(name=f"nut/{HOSTILE}", score=35.0),
        Image(name="nut/ä b%20c.png", score=5.0, run=OLDER_RUN),
        Image(name="nut/broken.png", score=None),
    ]
    return [*bolts, *nuts]


def draw(path: Path, score: float | None) -> None:
    """A grey picture, with a white square where it is defective; no picture for a reject."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if score is None:
        path.write_bytes(b"no picture")
        return
    pixels = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90, np.uint8)
    pixels[10:20, 30:45] = 90 + min(160, round(4 * score))
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def map_of(image: Image) -> np.ndarray:
    """The score in the place of the square, and nothing elsewhere."""
    found = np.zeros(MAP_SHAPE, np.float32)
    found[8:16, 16:24] = image.score
    return found


def row_of(image: Image, listed: listing.Listed) -> dict[str, Any]:
    """The verdict row of an image."""
    is_reject = image.score is None
    regions = [
        {"x_px": 30, "y_px": 10, "width_px": 15, "height_px": 10, "area_px": 150, "peak": 1.0}
    ]
    return {
        "image": listed.image,
        "category": image.name.partition("/")[0],
        "verdict": image.verdict,
        "score": image.score,
        "threshold": None if is_reject else THRESHOLD,
        "codes_changed": None if is_reject else 3,
        "regions": regions if image.verdict == "defect" else [],
        "width_px": None if is_reject else SIZE_PX[0],
        "height_px": None if is_reject else SIZE_PX[1],
        "error": "unreadable" if is_reject else "",
        "error_detail": "not a known image format" if is_reject else "",
        "model_version": "20261120T000000Z-0123abcd",
        "source_etag": listed.etag,
        "source_bytes": listed.size_bytes,
        "source_modified_at": listed.modified_at,
        "inspected_at": AT + timedelta(seconds=len(image.name)),
        "run": image.run,
    }


def write_night(
    archive: Path, output: str, found: list[Image] | None = None, **record: Any
) -> list[dict[str, Any]]:
    """Draw the images and write their tables, a part per category, and run.json."""
    found = images() if found is None else found
    for image in found:
        draw(archive / image.name, image.score)
    rows = []
    for category in dict.fromkeys(image.name.partition("/")[0] for image in found):
        mine = [image for image in found if image.name.startswith(f"{category}/")]
        rows += _write_part(output, archive, mine)
    asked = {"archive": uris.absolute(str(archive)), "models": ""}
    values = {"run": RUN, "asked": asked, "seconds": 93.0, "warnings": [], **record}
    files.write_bytes(output_layout.latest_run_record(output), json.dumps(values).encode())
    return rows


def _write_part(output: str, archive: Path, found: list[Image]) -> list[dict[str, Any]]:
    rows = [row_of(each, _listed(archive / each.name)) for each in found]
    maps = [
        {
            **{name: row[name] for name in ("image", "category", "model_version")},
            "map_height_px": MAP_SHAPE[0],
            "map_width_px": MAP_SHAPE[1],
            "anomaly_map": map_of(image).ravel(),
        }
        for row, image in zip(rows, found, strict=True)
        if image.score is not None
    ]
    verdicts = pa.Table.from_pylist(rows, schema=tables.VERDICTS)
    maps_table = pa.Table.from_pylist(maps, schema=tables.MAPS)
    sink.write_part(output, verdicts, maps_table, version=tables.VERDICTS_VERSION)
    return rows


def _listed(path: Path) -> listing.Listed:
    return listing.of_local(str(path), path.stat())


def make_page(output: str, **options: Any) -> tuple[Survey, list[cards.Card]]:
    """Make the page in this process, without Ray."""
    job = ReportJob(output=output, **options)
    found = survey(job)
    batches = cards.batches(found.rows, num_restored=job.restored, size=5)
    drawn = [card for each in batches for card in cards.draw(each, output, job.models or "")]
    html = page.render(**contents.values(job, job.models or "", found, drawn))
    files.write_bytes(output_layout.report_page(output), html)
    return found, drawn
