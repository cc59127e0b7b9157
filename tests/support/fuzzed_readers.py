"""Every reader of files from outside, called with changed bytes: one row or one message each.

`try_one` gives the outcome of one input, which is fixed by the reader's name and a number. It
raises whatever the reader raises beyond what it may: that would have ended a run.
"""

import hashlib
import io
import json
import random
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support import mutations, small_detectors
from vqad import tables
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import manifests
from vqad.images.listing import Listed
from vqad.images.placement import ImageForm
from vqad.images.routing import Routing, router
from vqad.inspection.array_columns import table_of
from vqad.inspection.shard_stage import read_shard
from vqad.inspection.stages import DECODED, decode_bytes
from vqad.inspection.work import ShardWork

IMAGES: Final = ("png", "jpeg", "tiff", "webp", "bmp")
SHARDS: Final = ("tar", "tar.gz", "parquet")
DETECTORS: Final = ("detector.json", "vqvae.safetensors")
MANIFESTS: Final = ("manifest.csv", "manifest.parquet")
READERS: Final = (*IMAGES, *SHARDS, *DETECTORS, *MANIFESTS)
FORMS: Final = {"x": ImageForm(size_px=32)}


def try_one(reader: str, number: int, folder: Path) -> str:
    """Outcome of one input: an error word, "read", or "message" for what is no image."""
    random_ = random.Random(f"{reader}-{number}")
    data = _changed(reader, random_)
    if reader in IMAGES:
        return _row(decode_bytes(data, "x", FORMS))
    if reader in MANIFESTS:
        return _manifest(reader, data, folder)
    return (_shard if reader in SHARDS else _detector)(reader, data, folder)


def _changed(reader: str, random_: random.Random) -> bytes:
    seeds = _seeds()[reader]
    seed = random_.choice(seeds)
    if reader == "detector.json" and random_.random() < 0.7:
        return mutations.json_changed(seed, random_)
    if reader.endswith("safetensors") and random_.random() < 0.5:
        return mutations.safetensors_changed(seed, random_)
    data = mutations.changed(seed, seeds, random_)
    if random_.random() < 0.5:
        data = mutations.with_right_checksums(reader.partition(".")[0], data)
    return mutations.packed(data, random_) if reader == "tar.gz" else data


def _row(row: dict[str, Any]) -> str:
    """Check that the row fits into the table; returns its error word or "read"."""
    listed = {"image": "x", "category": "x", "source_etag": "", "source_bytes": 0, "part": ""}
    table = table_of([listed | row], DECODED)
    return _word(table.to_pylist()[0])


def _word(row: dict[str, Any]) -> str:
    assert row["error"] in ("", *tables.ERRORS)
    assert (row["pixels"] is None) == bool(row["error"])
    if row["error"]:
        assert row["error_detail"]
        return str(row["error"])
    assert len(row["pixels"]) == FORMS["x"].size_px ** 2 * 3 * row["bits"] // 8
    return "read"


def _shard(reader: str, data: bytes, folder: Path) -> str:
    """Read a shard as an inspection does; returns the last row's error word, or "read"."""
    path = folder / f"x.{reader}"
    path.write_bytes(data)
    listed = Listed(image=path.as_uri(), size_bytes=len(data), etag="e", modified_at=None)
    work = ShardWork(
        listed=listed,
        router=router(folder.as_uri(), Routing(category="x")),
        known={},
        redo=frozenset(),
    )
    output, word, images = str(folder / "output"), "read", set()
    for unit in read_shard(work, output=output, holder="", include=None, forms=FORMS, num_rows=16):
        for row in unit.to_pylist():
            assert row["image"] not in images
            images.add(row["image"])
            word = _word(row)
    return word


def _detector(reader: str, data: bytes, folder: Path) -> str:
    """Load a detector of which one file was changed and, if it is weights, recorded as it is."""
    record, weights = _saved()
    version = str(record["version"])
    (folder / "x" / version).mkdir(parents=True, exist_ok=True)
    contents = weights | {"detector.json": json.dumps(record).encode()} | {reader: data}
    if reader != "detector.json":
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        recorded = record | {"files": record["files"] | {reader: entry}}
        contents["detector.json"] = json.dumps(recorded).encode()
    for name, content in contents.items():
        (folder / "x" / version / name).write_bytes(content)
    try:
        Detector.load(str(folder), "x", version=version)
        message = None
    except DetectorError as error:
        message = str(error)
    assert message is None or (str(folder) in message and len(message) < 2000), message
    return "read" if message is None else "message"


def _manifest(reader: str, data: bytes, folder: Path) -> str:
    """Read a manifest, or an archive of the same name, as the survey of a run does."""
    path = folder / reader
    path.write_bytes(data)
    manifests.is_manifest(str(path))
    try:
        found = manifests.read(str(path))
        message = None
    except ValueError as error:
        message = str(error)
    assert message is None or str(path) in message, message
    if message is None:
        assert all(image.startswith(("file://", "s3://")) for image in found)
    return "read" if message is None else "message"


@cache
def _saved() -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record and the weights of a small detector."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive")
        small_detectors.draw(archive, ("fabric",))
        (archive / "fabric").rename(archive / "x")
        version = small_detectors.save_detector(str(Path(folder, "models")), "x", str(archive))
        saved = Path(folder, "models", "x", version)
        weights = {path.name: path.read_bytes() for path in saved.glob("*.safetensors")}
        return json.loads((saved / "detector.json").read_text()), weights


@cache
def _seeds() -> dict[str, list[bytes]]:
    """Correct files of every reader, small, of many kinds."""
    images = _image_seeds()
    record, weights = _saved()
    tars = [_tar(images, each) for each in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    return images | {
        "tar": tars,
        "tar.gz": tars,
        "parquet": list(_parquets(images)),
        "manifest.csv": [_named().to_csv(index=False).encode()],
        "manifest.parquet": [_named().to_parquet()],
        "detector.json": [json.dumps(record).encode()],
        "vqvae.safetensors": [weights["vqvae.safetensors"]],
    }


def _named() -> pd.DataFrame:
    images = [f"s3://bucket/x.tar#{number}-größe.png" for number in range(50)]
    return pd.DataFrame({"image": images, "category": ["x", None] * 25})


def _image_seeds() -> dict[str, list[bytes]]:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    smooth = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 3))
    exif = Image.Exif()
    exif[274] = 6
    deep = noise.astype(np.uint16) * 257
    modes = {
        "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "jpeg": ["L", "RGB", "CMYK"],
        "tiff": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"],
        "webp": ["RGB", "RGBA"],
        "bmp": ["1", "L", "P", "RGB", "RGBA"],
    }
    options: dict[str, list[dict[str, Any]]] = {
        "jpeg": [{}, {"progressive": True}],
        "webp": [{}, {"lossless": True}],
        "tiff": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}],
    }
    found: dict[str, list[bytes]] = {}
    for kind, names in modes.items():
        for mode in names:
            picture = Image.fromarray(deep[..., 0]) if mode == "I;16" else smooth.convert(mode)
            for each in options.get(kind, [{}]):
                more = {} if kind == "bmp" else {"exif": exif}
                found.setdefault(kind, []).append(_encoded(picture, kind, **each, **more))
    for kind, ending in (("png", ".png"), ("tiff", ".tif")):
        found[kind].append(cv2.imencode(ending, deep)[1].tobytes())
    return found


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _tar(images: dict[str, list[bytes]], form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for kind, data in images.items():
            for name in (f"x/a.{kind}", "x/" + "long" * 60 + f".{kind}", f"größe.{kind}"):
                header = tarfile.TarInfo(name)
                header.size = len(data[-1])
                tar.addfile(header, io.BytesIO(data[-1]))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "long" * 60
        tar.addfile(link)
    return stream.getvalue()


_Pairs = list[tuple[str, bytes]]


def _parquets(images: dict[str, list[bytes]]) -> Any:
    pairs = [
        (f"x/{kind}-{at}.png", data)
        for kind, all_ in images.items()
        for at, data in enumerate(all_)
    ]
    layouts: list[Callable[[_Pairs], pa.Table]] = [_as_struct, _as_columns]
    for layout in layouts:
        for codec in ("none", "snappy", "gzip", "zstd"):
            for version in ("1.0", "2.0"):
                stream = io.BytesIO()
                pq.write_table(
                    layout(pairs),
                    stream,
                    compression=codec,
                    data_page_version=version,
                    row_group_size=12,
                    use_dictionary=version == "2.0",
                )
                yield stream.getvalue()


def _as_struct(pairs: _Pairs) -> pa.Table:
    return pa.table({"image": [{"bytes": data, "path": name} for name, data in pairs]})


def _as_columns(pairs: _Pairs) -> pa.Table:
    return pa.table({"path": [name for name, _ in pairs], "image": [data for _, data in pairs]})
