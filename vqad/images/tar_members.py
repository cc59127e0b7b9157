"""The images of a tar archive, plain or gzipped, in one pass that unpacks nothing to disk."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from vqad.images.listing import is_excluded, is_image
from vqad.images.shard_contents import (
    BrokenShardError,
    Content,
    ShardError,
    check_num_members,
    first_look,
    leads_out,
    reading_on,
)
from vqad.images.tar_headers import Header, TarHeaders

_GZIP: Final = b"\x1f\x8b"
# Others can make gigabytes of a kilobyte. They are refused by name.
_REFUSED: Final = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def read(file: Any, *, leave_out: Callable[[str], None] | None = None) -> Iterator[Content]:
    """Every image of the archive in its order; raises ShardError where the archive is broken.

    ``leave_out`` gets the names of the files that are no images by their names.
    """
    stored_bytes = file.seek(0, io.SEEK_END)
    unpacked, is_packed = _unpacked(file)
    _check_is_tar(unpacked)
    headers = TarHeaders(file=unpacked, stored_bytes=stored_bytes, is_packed=is_packed)
    found, num_members = iter(headers), 0
    while True:
        with reading_on(num_members):
            header = next(found, None)
            check_num_members(num_members, stored_bytes)
        if header is None:
            return
        num_members += 1
        name = header.name.removeprefix("./")
        if header.is_folder:
            continue
        if not is_image(name) and not is_excluded(name):
            if leave_out:
                leave_out(name)
        elif _is_listed(name):
            read_bytes = partial(_bytes_of, unpacked, header, num_members - 1)
            yield name, header.size_bytes, read_bytes, _refusal(header)


def _unpacked(file: Any) -> tuple[Any, bool]:
    """The file itself, or its decompressed content and True; compression is seen from the bytes."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    for signature, name in _REFUSED.items():
        if start.startswith(signature):
            detail = f"a tar archive compressed by {name}; pack it as .tar or .tar.gz"
            raise ShardError("unsupported", detail)
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file, mode="rb"), True
    return file, False


def _check_is_tar(file: Any) -> None:
    """Raise ShardError unless the file begins with a header or with the end marker."""
    with first_look("not a tar archive"):
        block = file.read(tarfile.BLOCKSIZE)
        if any(block) or len(block) < tarfile.BLOCKSIZE:
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _bytes_of(file: Any, header: Header, num_before: int) -> bytes:
    with reading_on(num_before):
        file.seek(header.start_byte)
        data = file.read(header.size_bytes)
        if len(data) < header.size_bytes:
            raise BrokenShardError
    return bytes(data)


def _refusal(header: Header) -> str:
    if header.is_sparse:
        return "a sparse file; pack it without holes"
    return "" if header.is_file else "a link or device, not a file"


def _is_listed(name: str) -> bool:
    return is_image(name) and (leads_out(name) or not is_excluded(name))
