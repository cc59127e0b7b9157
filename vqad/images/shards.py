"""Shards: tar archives, also compressed, and Parquet files with the bytes of many images.

Each is read once from its beginning to its end, a member at a time, and nothing of it is ever
written to disk. A member's URI is ``SHARD#NAME``; second and later ones of a name get ``;2``.
"""

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from vqad.images.decoding import MAX_BYTES
from vqad.images.listing import TARS, is_image, is_passed_over
from vqad.storage import s3
from vqad.storage.errors import FetchError
from vqad.storage.retries import PRECONDITION_FAILED, persist
from vqad.storage.uris import encoded, is_remote, path_of

CHUNK_BYTES: Final = 8 * 2**20  # of one request
_ROWS_AT_ONCE: Final = 16  # of a Parquet file
_LARGEST_HEADER_BYTES: Final = 2**20  # of a member's own description, in a tar

# Columns that may name the image of a Parquet row, best first; else it is the row's number.
_NAMES: Final = ("path", "file_name", "filename", "name", "key", "id")


class ShardError(FetchError):
    """A shard that gives no more members: one row stands for all that are not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One image of a shard; ``read`` gives its bytes until the next member is asked for."""

    image: str  # URI
    name: str
    size_bytes: int
    read: Callable[[], bytes]
    error: str = ""  # one of tables.ERRORS where it must not be read
    error_detail: str = ""


def members(shard: str, *, size_bytes: int, etag: str = "") -> Iterator[Member]:
    """All images of a shard in their order. Raises FetchError at the place of what is broken."""
    if not size_bytes:
        raise ShardError("empty", "no bytes")
    seen: Counter[str] = Counter()
    reader = _tar if shard.lower().endswith(TARS) else _parquet
    with _opened(shard, size_bytes, etag) as file:
        for name, member_bytes, read, refused in reader(file):
            seen[name] += 1
            number = "" if seen[name] == 1 else f";{seen[name]}"
            error, detail = _refusal(name, member_bytes, refused)
            yield Member(
                image=f"{shard}#{encoded(name)}{number}",
                name=name,
                size_bytes=member_bytes,
                read=read,
                error=error,
                error_detail=detail,
            )


def read_member(image: str, *, size_bytes: int) -> bytes:
    """The bytes of one member, by reading its shard up to there; raises FetchError."""
    for each in members(image.partition("#")[0], size_bytes=size_bytes):
        if each.image == image:
            return each.read()
    raise FetchError("missing", "no such member", "check the name")


def size_of(shard: str) -> int:
    """Bytes of a shard; raises FetchError."""
    if is_remote(shard):
        found = s3.head(*s3.bucket_and_key(shard))
        if found is None:
            raise FetchError("missing", "no such object", "check the name")
        return int(found["ContentLength"])
    return persist(lambda: Path(path_of(shard)).stat().st_size)


def schema_of(shard: str) -> pa.Schema:
    """The columns of a Parquet file; raises FetchError."""
    size_bytes = size_of(shard)
    if not size_bytes:
        raise ShardError("empty", "no bytes")
    with _opened(shard, size_bytes, "") as file:
        return _opened_parquet(file).schema_arrow


def is_text(schema: pa.Schema, name: str) -> bool:
    """Whether there is a column of this name, of text."""
    at = schema.get_field_index(name)
    kind = schema.field(at).type if at >= 0 else None
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _refusal(name: str, size_bytes: int, refused: str) -> tuple[str, str]:
    if refused:
        return "unsupported", refused
    if _leads_out(name):
        return "unsupported", "the name leads out of the archive"
    if size_bytes > MAX_BYTES:
        return "too_large", f"{size_bytes} bytes, more than {MAX_BYTES}"
    return "", ""


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


# Name, bytes, how to read it, and why it must not be.
_Found = tuple[str, int, Callable[[], bytes], str]


class _Header(tarfile.TarInfo):
    """Notes whether an archive came to its proper end, and bounds what describes a member."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        describes = header.type in (*b"xgLK", b"x", b"g", b"L", b"K")
        if header.size < 0 or (describes and header.size > _LARGEST_HEADER_BYTES):
            raise tarfile.HeaderError("bad size")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> "_Header":
        try:
            return super().fromtarfile(tarfile)
        except _END_OF_TAR:
            tarfile.ended = True
            raise


_END_OF_TAR: Final = tarfile.EOFHeaderError  # type: ignore[attr-defined]


class _Tar(tarfile.TarFile):
    tarinfo = _Header
    ended = False
    members: list[tarfile.TarInfo]


def _tar(file: Any) -> Iterator[_Found]:
    num_members = 0
    try:
        with _Tar.open(fileobj=file, mode="r|*") as tar:
            while header := tar.next():
                tar.members = []  # else it keeps the headers of all
                num_members += 1
                name = header.name.removeprefix("./")
                if not header.isdir() and _is_listed(name):
                    refused = "" if header.isreg() else "a link or device, not a file"
                    yield (
                        name,
                        header.size,
                        partial(_bytes_of, tar, header, num_members - 1),
                        refused,
                    )
            if not tar.ended:
                _cut_short(num_members)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FetchError):
            raise
        if not num_members:
            raise ShardError("unreadable", "not a tar archive") from None
        _cut_short(num_members)


def _bytes_of(tar: tarfile.TarFile, header: tarfile.TarInfo, num_before: int) -> bytes:
    content = tar.extractfile(header)
    assert content is not None, header.name
    try:
        return content.read()
    except tarfile.TarError:
        _cut_short(num_before)


def _cut_short(num_members: int) -> NoReturn:
    raise ShardError(
        "archive_truncated", f"the archive ends early or is broken after {num_members} members"
    )


def _is_listed(name: str) -> bool:
    return is_image(name) and (_leads_out(name) or not is_passed_over(name))


def _parquet(file: Any) -> Iterator[_Found]:
    table = _opened_parquet(file)
    content = _content_column(table.schema_arrow)
    name = next((each for each in _NAMES if is_text(table.schema_arrow, each)), None)
    row = 0
    columns = [content] if name is None else [content, name]
    try:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
            for found in batch.to_pylist():
                data, path = found[content], found[name] if name else None
                if isinstance(data, dict):
                    data, path = data["bytes"], data.get("path") or path
                path = path or f"{row:06}"
                row += 1
                if not is_passed_over(path) or ".." in path.split("/"):
                    yield path, len(data or b""), partial(bytes, data or b""), ""
    except pa.ArrowException:
        _cut_short(row)


def _opened_parquet(file: Any) -> pq.ParquetFile:
    magic = file.read(4)
    file.seek(-4, io.SEEK_END)
    if magic == b"PAR1" and file.read(4) != b"PAR1":
        _cut_short(0)
    file.seek(0)
    try:
        # Buffered: a column's whole chunk, all pixels of a row group, would else be read at once.
        return pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FetchError):
            raise
        raise ShardError("unreadable", "not a Parquet file") from None


def _content_column(schema: pa.Schema) -> str:
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
    raise ShardError("unsupported", "Parquet without a column of image bytes")


@contextmanager
def _opened(shard: str, size_bytes: int, etag: str) -> Iterator[Any]:
    if is_remote(shard):
        yield io.BufferedReader(_Object(shard, size_bytes, etag), CHUNK_BYTES)
        return
    with persist(lambda: Path(path_of(shard)).open("rb")) as file:
        yield file


class _Object(io.RawIOBase):
    """An object as a file: read range by range, so that a broken connection costs one of them."""

    def __init__(self, uri: str, size_bytes: int, etag: str) -> None:
        self._place, self._size_bytes, self._position = s3.bucket_and_key(uri), size_bytes, 0
        self._unchanged = {"IfMatch": f'"{etag}"'} if etag else {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        self._position = max(0, start[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size_bytes)
        if end <= self._position:
            return 0
        data = self._range(self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        asked = {"Range": f"bytes={start}-{end - 1}", **self._unchanged}
        try:
            return s3.read_tagged(*self._place, max_bytes=end - start, **asked)[0]
        except FetchError as failure:
            if failure.detail != PRECONDITION_FAILED:
                raise
            raise FetchError("fetch_failed", "the archive changed while it was read") from None
