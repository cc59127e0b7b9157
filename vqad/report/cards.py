"""Cards: a verdict row with its pictures, as the page reads it.

`draw` makes the cards of a batch of rows and writes their pictures. It is one task on a cluster and
can be called by hand. A picture that can't be had is no error: the card says what is missing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from vqad.array_types import AnomalyMap
from vqad.images import decoding, sources
from vqad.images.headers import ImageError
from vqad.inspection import map_rows
from vqad.report import pictures
from vqad.report.restored import Restoring
from vqad.storage import files, output_layout

Row = dict[str, Any]

_NUM_WRITERS: Final = 4  # threads, for the time that a store needs to answer
_DIGEST_CHARACTERS: Final = 20
_NO_MAP: Final = "no anomaly map was written for this image"


@dataclass(kw_only=True)
class Card:
    """A verdict row, its pictures, and the reasons of those that are missing."""

    row: Row
    names: dict[str, str] = field(default_factory=dict)  # file names of pictures, by kind
    missing: dict[str, str] = field(default_factory=dict)  # reasons, by kind
    crop: pictures.Crop | None = None
    outline: str = ""  # SVG path in pixels of the map
    map_size_px: tuple[int, int] = (0, 0)  # width and height


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows whose cards one task draws."""

    rows: list[Row]
    restore: bool  # then all rows are of one category and detector


def batches(rows: Sequence[Row], *, num_restored: int, size: int) -> list[Batch]:
    """Cut rows, the most severe first, into batches of up to ``size``.

    The first ``num_restored`` judged rows are restored, each batch by one detector. Rows of a shard
    are in as few batches as possible, and so are rows of a part of the tables.
    """
    judged = [row for row in rows if row["score"] is not None][:num_restored]
    chosen = {row["image"] for row in judged}
    others = [row for row in rows if row["image"] not in chosen]
    return [
        Batch(rows=each, restore=restore)
        for group, restore in ((judged, True), (others, False))
        for each in _cut(group, size, by_detector=restore)
    ]


def _cut(rows: Sequence[Row], size: int, *, by_detector: bool) -> Iterator[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        detector = (row["category"], row["model_version"]) if by_detector else ()
        groups.setdefault((*detector, sources.shard_of(row)), []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: (row["part"], row["image"]))
        yield from (group[at : at + size] for at in range(0, len(group), size))


def draw(batch: Batch, output: str, models: str) -> list[Card]:
    """Draw the cards of a batch and write their pictures below ``output``."""
    found_maps = map_rows.read(output, batch.rows)
    restoring = Restoring(models, batch.rows[0]) if batch.restore else None
    cards: dict[str, Card] = {}
    with _Writer(output) as writer:
        for row, data, reason in sources.read(batch.rows):
            card = cards[row["image"]] = Card(row=row)
            for kind, picture in _draw(card, data, reason, found_maps.get(row["image"])).items():
                writer.write(card, kind, picture)
            if restoring and data:
                restoring.add(row["image"], data)
        if restoring:
            for image, card in cards.items():
                if reason := restoring.reason_of(image):
                    card.missing["restored"] = reason
            for image, restored in restoring.pictures().items():
                picture = pictures.encoded(restored, max_bytes=pictures.RESTORED_BYTES)
                writer.write(cards[image], "restored", picture)
    return list(cards.values())


class _Writer:
    """Writes pictures beside the work, and notes their names on the cards."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.pool = ThreadPoolExecutor(_NUM_WRITERS)
        self.writing: list[Any] = []

    def __enter__(self) -> "_Writer":
        return self

    def write(self, card: Card, kind: str, picture: bytes) -> None:
        card.names[kind] = name_of(card.row, kind)
        uri = output_layout.report_picture(self.output, card.names[kind])
        self.writing.append(self.pool.submit(files.write_bytes, uri, picture))

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()
        for each in self.writing:
            each.result()  # raises what writing raised


def name_of(row: Row, kind: str) -> str:
    """A file name that follows from the verdict, so that a page made again finds it again."""
    text = "\n".join((row["image"], row["source_etag"], str(row["inspected_at"])))
    return f"{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]}-{kind}.webp"


def _draw(card: Card, data: bytes, reason: str, anomaly_map: AnomalyMap | None) -> dict[str, bytes]:
    """Pictures of the map and the image, by kind; what is missing is noted on the card."""
    drawn = _of_map(card, anomaly_map)
    if not data:
        card.missing["whole"] = reason or card.row["error_detail"]
        return drawn
    try:
        return drawn | _of_image(card, data, anomaly_map)
    except ImageError as error:
        card.missing["whole"] = error.detail
        return drawn


def _of_map(card: Card, anomaly_map: AnomalyMap | None) -> dict[str, bytes]:
    if anomaly_map is None:
        card.missing |= {} if card.row["score"] is None else {"map": _NO_MAP}
        return {}
    threshold = card.row["threshold"]
    counted = pictures.counted_regions(anomaly_map, threshold, len(card.row["regions"]))
    card.outline = pictures.outline(counted)
    card.map_size_px = anomaly_map.shape[1], anomaly_map.shape[0]
    coloured = pictures.overlay(anomaly_map, threshold)
    return {"map": pictures.encoded(coloured, max_bytes=pictures.MAP_BYTES)}


def _of_image(card: Card, data: bytes, anomaly_map: AnomalyMap | None) -> dict[str, bytes]:
    source = decoding.decode_source(data)
    height_px, width_px = source.shape[:2]
    card.row |= {"width_px": width_px, "height_px": height_px}  # a reject's row has none
    drawn = {"whole": pictures.encoded(pictures.whole(source), max_bytes=pictures.WHOLE_BYTES)}
    regions = card.row["regions"]
    card.crop = pictures.crop_of(regions, anomaly_map, width_px=width_px, height_px=height_px)
    if card.crop:
        cut_out = card.crop.of(source)
        drawn["crop"] = pictures.encoded(cut_out, max_bytes=pictures.CROP_BYTES)
    return drawn
