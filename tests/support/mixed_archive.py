"""A large archive on object storage with every kind of image, and the expected result of each.

It has a few drawn pictures under many names, in folders and in tar, tar.gz and Parquet shards.
Every eighth image is odd or bad.
"""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support import small_detectors
from vqad.storage import files
from vqad.storage.uris import encoded

CATEGORIES = ("fabric", "washer", "ampoule")
SHARD_IMAGES = 40
SPECIAL_EVERY = 8


@dataclass
class Mixed:
    """An archive's URI, and the expected error of every image ("" if it must be inspected)."""

    archive: str
    expected: dict[str, str] = field(default_factory=dict)


def _png_header(width_px: int, height_px: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _encoded(picture: np.ndarray, ending: str) -> bytes:
    return cv2.imencode(ending, picture)[1].tobytes()


def _by_pillow(picture: np.ndarray, mode: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture[..., ::-1]).convert(mode).save(sink, "JPEG", **options)
    return sink.getvalue()


def _rotated(picture: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _by_pillow(picture, "RGB", exif=exif)


# Name, expected error, and a function that makes the file from a picture (BGR).
SPECIAL: list[tuple[str, str, Callable[[np.ndarray], bytes]]] = [
    ("deep.png", "", lambda picture: _encoded(picture.astype(np.uint16) * 257, ".png")),
    ("grey.png", "", lambda picture: _encoded(picture[..., 0], ".png")),
    ("alpha.png", "", lambda picture: _encoded(np.dstack([picture, picture[..., :1]]), ".png")),
    ("cmyk.jpg", "", lambda picture: _by_pillow(picture, "CMYK")),
    ("rotated.jpg", "", _rotated),
    ("lies.png", "", lambda picture: _encoded(picture, ".jpg")),
    ("lies.jpg", "", lambda picture: _encoded(picture, ".png")),
    ("with space.png", "", lambda picture: _encoded(picture, ".png")),
    ("with#hash.png", "", lambda picture: _encoded(picture, ".png")),
    ("100%25.png", "", lambda picture: _encoded(picture, ".png")),
    ("größe_工.webp", "", lambda picture: _encoded(picture, ".webp")),
    ("two;2.bmp", "", lambda picture: _encoded(picture, ".bmp")),
    ("empty.png", "empty", lambda _: b""),
    ("cut.png", "truncated", lambda picture: _encoded(picture, ".png")[:-60]),
    ("cut.jpg", "truncated", lambda picture: _encoded(picture, ".jpg")[:-60]),
    ("cut.webp", "truncated", lambda picture: _encoded(picture, ".webp")[:-60]),
    ("text.png", "unreadable", lambda _: b"no picture but text\n"),
    ("vast.png", "too_large", lambda _: _png_header(50_000, 50_000)),
    ("moving.gif", "unsupported", lambda _: b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
]


def save_detectors(models: str, folder: Path, **configs: Any) -> None:
    """Draw the pictures in a local folder, and save a detector for each category."""
    small_detectors.draw(folder, CATEGORIES)
    for category in CATEGORIES:
        small_detectors.save_detector(models, category, str(folder), **configs)


def upload(archive: str, folder: Path, num_images: int) -> Mixed:
    """Fill an archive with this number of images, made from the drawn ones."""
    mixed = Mixed(archive=archive)
    made_names = _contents(folder, num_images)
    with ThreadPoolExecutor(8) as pool:
        uploads = []
        for number, (category, contents) in enumerate(_groups(made_names)):
            stored = (_files, _tar, _files, _tar_gz, _files, _parquet)[number % 6]
            names = stored(mixed, category, number, contents)
            uploads += [pool.submit(files.write_bytes, *each) for each in names.items()]
        for each in uploads:
            each.result()
    return mixed


Content = tuple[str, bytes, str]  # name, bytes, expected error


def _contents(folder: Path, num_images: int) -> Iterator[tuple[str, Content]]:
    paths = {name: sorted((folder / name / "test").rglob("*.png")) for name in CATEGORIES}
    pools = {name: cycle([each.read_bytes() for each in found]) for name, found in paths.items()}
    special = cycle(SPECIAL)
    for number in range(num_images):
        category = CATEGORIES[number // SHARD_IMAGES % len(CATEGORIES)]
        data = next(pools[category])
        if number % SPECIAL_EVERY:
            yield category, (f"{number:06}.png", data, "")
        else:
            name, error, make = next(special)
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            yield category, (f"{number:06}-{name}", make(picture), error)


def _groups(contents: Iterator[tuple[str, Content]]) -> Iterator[tuple[str, list[Content]]]:
    group: list[Content] = []
    number = 0
    for category, content in contents:
        group.append(content)
        if len(group) == SHARD_IMAGES:
            # Every seventh group is of a category without a detector.
            yield (category if number % 7 != 6 else "alien"), group
            group, number = [], number + 1
    if group:
        yield category, group


def _expect(mixed: Mixed, image: str, category: str, error: str) -> None:
    assert image not in mixed.expected, image
    mixed.expected[image] = "unknown_category" if category == "alien" else error


def _files(mixed: Mixed, category: str, number: int, contents: list[Content]) -> dict[str, bytes]:
    uploads = {}
    for name, data, error in contents:
        uri = f"{mixed.archive}/{category}/{number:04}/{encoded(name)}"
        uploads[uri] = data
        _expect(mixed, uri, category, error)
    return uploads


def _tar(
    mixed: Mixed, category: str, number: int, contents: list[Content], mode: str = "w"
) -> dict[str, bytes]:
    """A tar with a folder of the category; its last member has the name of the first."""
    uri = f"{mixed.archive}/shard-{number:04}.tar" + (".gz" if mode == "w:gz" else "")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:
        for name, data, error in [*contents[:-1], contents[0]]:
            header = tarfile.TarInfo(f"{category}/{name}")
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
            image = f"{uri}#{encoded(header.name)}"
            _expect(mixed, f"{image};2" if image in mixed.expected else image, category, error)
    return {uri: sink.getvalue()}


def _tar_gz(mixed: Mixed, category: str, number: int, contents: list[Content]) -> dict[str, bytes]:
    return _tar(mixed, category, number, contents, "w:gz")


def _parquet(mixed: Mixed, category: str, number: int, contents: list[Content]) -> dict[str, bytes]:
    uri = f"{mixed.archive}/{category}/part-{number:04}.parquet"
    rows = [{"image": {"bytes": data, "path": name}} for name, data, _ in contents]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    for name, _, error in contents:
        _expect(mixed, f"{uri}#{encoded(name)}", category, error)
    return {uri: sink.getvalue()}
