"""Decoded training images of a category.

Every image is decoded once. Up to a bound, the pixels are in memory. Above it they are in a file in
the node's temporary folder, from which batches are read.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vqad.images import decoding, headers, listing, sources
from vqad.images.placement import Cropped, Geometry, ImageForm, Placement, Resize
from vqad.images.roi import RegionOfInterest
from vqad.storage import errors, files
from vqad.training import suspicious_pictures
from vqad.training.learned_tiles import DecodedTiles, TileDrawing

AnyDecoded = decoding.Decoded | DecodedTiles
Decode = Callable[[bytes], AnyDecoded]

NUM_READERS = 8  # images in flight at once, as objects or pixels
LARGEST_IN_MEMORY_BYTES = 4 * 2**30  # a guess: 20,000 images of 256 x 256 pixels


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Decoded images of one category."""

    names: list[str]  # URIs
    # (num, size, size, 3), uint8 or uint16; with tiles as `learned_tiles` says. A memmap beyond the
    # bound.
    pixels: np.ndarray
    bits: int  # significant bits of values in 16-bit files; the pixels have the full range
    unreadable: list[str]  # "URI: why", of those left out
    suspicious: list[str]  # "URI: why", of those left out because they look like masks
    sizes_px: list[tuple[int, int]] = field(default_factory=list)  # width and height of the files
    geometry: Geometry | None = None  # of these images in the pixels; None if they are square

    @property
    def whole(self) -> Cropped | np.ndarray:
        """The pixels without padding."""
        placements = self.placements
        if placements is None:
            return self.pixels
        return Cropped(pixels=self.pixels, placements=placements)

    @property
    def placements(self) -> list[Placement] | None:
        """How each image lies in its pixels; None if they are square."""
        if self.geometry is None:
            return None
        return self.geometry.placements(len(self.names), self.sizes_px)


def fingerprint(listed: Sequence[listing.Listed], *, digest: str = "") -> str:
    """A hash of names and contents: other data have another one.

    ``digest`` is of whatever else shapes the images, "" if nothing does.
    """
    rows: list[Any] = [(each.image, each.size_bytes, each.etag) for each in listed]
    rows += [digest] if digest else []
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def read(
    listed: Sequence[listing.Listed],
    *,
    size_px: int,
    resize: Resize = "squash",
    roi: RegionOfInterest | None = None,
    bits: int | None = None,
    reviewed: Sequence[listing.Listed] = (),
    in_memory_bytes: int = LARGEST_IN_MEMORY_BYTES,
    folder: Path | None = None,
    drawing: TileDrawing | None = None,
) -> Examples:
    """Fetch and decode images; those that can't be read are left out and named.

    ``bits`` are those of an existing detector. If it is None, they are found, and images that look
    like masks are left out and named. ``reviewed`` come last: they may be members of shards, and
    are left out where their file has another tag now. Above ``in_memory_bytes`` the pixels go to a
    file: in ``folder``, where other processes can map it, else a file without a name, which ends
    with the process. With a ``drawing``, each row has a picture of the whole and some of its tiles,
    (1 + tiles, size, size, 3). Pixels outside ``roi`` take the nearest colour inside. Raises
    ValueError if no image can be read, if many look like masks, or if one does not have the shape
    that ``roi`` has.
    """
    drawing = drawing and replace(drawing, roi=roi)
    form = ImageForm(
        size_px=size_px,
        resize=resize,
        roi_source_px=roi.source_px if roi else None,
        tiling=drawing.tiling if drawing else None,
    )
    found = _Found(geometry=Geometry(form=form, roi=roi), drawing=drawing)
    shape = drawing.shape if drawing else (size_px, size_px, 3)
    pictures = found.pictures(listed, reviewed)
    num = len(listed) + len(reviewed)
    if num * math.prod(shape) <= in_memory_bytes:
        decoded = list(pictures)
        pixels = decoding.stack(decoded) if decoded else np.empty(0)
    else:
        pixels = _streamed(pictures, (num, *shape), folder)
    if not found.names:
        first = found.unreadable[0]
        raise ValueError(f"none of {num} images can be read; the first: {first}")
    return found.examples(pixels, bits)


@dataclass
class _Found:
    """Everything that reading finds out about the images, beside their pixels."""

    geometry: Geometry
    drawing: TileDrawing | None = None
    names: list[str] = field(default_factory=list)
    values: list[decoding.SourceValues] = field(default_factory=list)
    deep: list[bool] = field(default_factory=list)  # True for images of 16-bit files
    unreadable: list[str] = field(default_factory=list)
    sizes_px: list[tuple[int, int]] = field(default_factory=list)

    def pictures(
        self,
        listed: Sequence[listing.Listed],
        reviewed: Sequence[listing.Listed],
    ) -> Iterator[np.ndarray]:
        """Read images, and note what they are; yields the pixels of those that can be read."""
        form = self.geometry.form
        decode = self.drawing.decode if self.drawing else partial(_decoded, form=form)
        found = chain(_read_all(listed, decode), _read_reviewed(reviewed, decode))
        for each, one in zip(chain(listed, reviewed), found, strict=True):
            if isinstance(one, str):
                self.unreadable.append(f"{each.image}: {one}")
                continue
            if reason := form.refusal(one.source_px):
                raise ValueError(f"{each.image} has {reason}; give a region of its shape, or none")
            assert one.values
            self.names.append(each.image)
            self.values.append(one.values)
            self.sizes_px.append(one.source_px)
            self.deep.append(one.pixels.dtype == np.uint16)
            placement = self.geometry.placement(one.source_px)
            yield one.pixels if placement.inside is None else placement.filled(one.pixels)

    def examples(self, pixels: np.ndarray, bits: int | None) -> Examples:
        """The examples, of all images or, where ``bits`` are to be found, of those like no mask."""
        counts = [each.num_distinct for each in self.values]
        reasons = suspicious_pictures.reasons(counts) if bits is None else {}
        suspicious = [f"{self.names[at]}: {reason}" for at, reason in reasons.items()]
        suspicious_pictures.check_few(suspicious, len(self.names))
        kept = [at for at in range(len(self.names)) if at not in reasons]
        largest = [self.values[at].largest for at in kept if self.deep[at]]
        bits = bits or (decoding.bits_of(max(largest)) if largest else 16)
        return Examples(
            names=[self.names[at] for at in kept],
            pixels=_kept(pixels, kept, self.deep, bits),
            bits=bits,
            unreadable=self.unreadable,
            suspicious=suspicious,
            sizes_px=[self.sizes_px[at] for at in kept],
            geometry=self.geometry,
        )


def _kept(pixels: np.ndarray, kept: Sequence[int], deep: Sequence[bool], bits: int) -> np.ndarray:
    """The rows that are kept, in place, with values of 16-bit files in the full range."""
    for to, at in enumerate(kept):
        if deep[at] and bits < 16:
            pixels[to] = decoding.to_full_range(pixels[at], bits)
        elif to != at:
            pixels[to] = pixels[at]
    return pixels[: len(kept)]


def _read_all(listed: Sequence[listing.Listed], decode: Decode) -> Iterator[AnyDecoded | str]:
    with ThreadPoolExecutor(NUM_READERS) as pool:
        # A few at a time: the results of a map over all would pile up in memory.
        for at in range(0, len(listed), 4 * NUM_READERS):
            some = listed[at : at + 4 * NUM_READERS]
            yield from pool.map(lambda each: _read(each, decode), some)


def _read_reviewed(
    reviewed: Sequence[listing.Listed], decode: Decode
) -> Iterator[AnyDecoded | str]:
    """Images of an archive, which may be members of shards; each shard is read once."""
    rows = [{"image": each.image, "source_etag": each.etag} for each in reviewed]
    found: dict[str, AnyDecoded | str] = {}
    for row, data, reason in sources.read(rows):
        try:
            found[row["image"]] = reason or decode(data)
        except headers.ImageError as error:
            found[row["image"]] = f"{error.error}: {error.detail}"
    yield from (found[each.image] for each in reviewed)


def _decoded(data: bytes, form: ImageForm) -> decoding.Decoded:
    # Not `decode_as`: an image of another shape than the region's ends the training.
    return decoding.decode(data, size_px=form.size_px, resize=form.resize, with_values=True)


def _read(listed: listing.Listed, decode: Decode) -> AnyDecoded | str:
    try:
        data = files.read_bytes(listed.image, max_bytes=decoding.MAX_BYTES)
        return decode(data)
    except (errors.FetchError, headers.ImageError) as error:
        return f"{error.error}: {error.detail}"


def _streamed(
    pictures: Iterable[np.ndarray], shape: tuple[int, ...], folder: Path | None
) -> np.ndarray:
    """Pixels in a file: 8 bits per value, or 16 from the first picture that has them."""
    rows, used = _file(shape, np.uint8, folder), 0
    for used, picture in enumerate(pictures, 1):
        if picture.dtype == np.uint16 and rows.dtype == np.uint8:
            rows = _widened(rows, used - 1, folder)
        factor = 257 if picture.dtype != rows.dtype else 1
        rows[used - 1] = picture.astype(rows.dtype) * rows.dtype.type(factor)
    return rows[:used]


def _widened(rows: np.memmap, used: int, folder: Path | None) -> np.memmap:
    wide = _file(rows.shape, np.uint16, folder)
    for at in range(used):
        wide[at] = rows[at] * np.uint16(257)
    return wide


def _file(shape: tuple[int, ...], dtype: type, folder: Path | None) -> np.memmap:
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        with _path(folder, dtype).open("xb+") if folder else tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process by a signal
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except OSError as error:
        raise ValueError(
            f"{num_bytes} bytes of decoded images do not fit into {tempfile.gettempdir()}: "
            f"{error.strerror}; set TMPDIR to a larger place, or give more --cache-bytes"
        ) from error


def _path(folder: Path, dtype: type) -> Path:
    return folder / f"{np.dtype(dtype).name}.pixels"


def mapped(folder: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    """Pixels that another process of this node has written to a folder."""
    # Copy on write: torch warns about arrays that are read-only.
    return np.memmap(_path(folder, np.dtype(dtype).type), dtype=dtype, mode="c", shape=shape)
