"""The images of a tar archive, in one pass over a stream that is never unpacked to disk."""

import tarfile
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from vqad.images.listing import is_excluded, is_image
from vqad.images.shard_contents import Content, ShardError, cut_short, leads_out
from vqad.storage.errors import FetchError

_LARGEST_HEADER_BYTES: Final = 2**20  # of the extended header of a member


class _Header(tarfile.TarInfo):
    """Records whether the archive has its end marker, and limits the size of extended headers."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        is_extended = header.type in (*b"xgLK", b"x", b"g", b"L", b"K")
        if header.size < 0 or (is_extended and header.size > _LARGEST_HEADER_BYTES):
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


def read(file: Any) -> Iterator[Content]:
    """Every image of the archive in its order; raises ShardError where the archive is broken."""
    num_members = 0
    try:
        with _Tar.open(fileobj=file, mode="r|*") as tar:
            while header := tar.next():
                tar.members = []  # TarFile would keep the headers of all members
                num_members += 1
                name = header.name.removeprefix("./")
                if not header.isdir() and _is_listed(name):
                    refusal = "" if header.isreg() else "a link or device, not a file"
                    read_bytes = partial(_bytes_of, tar, header, num_members - 1)
                    yield name, header.size, read_bytes, refusal
            if not tar.ended:
                cut_short(num_members)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FetchError):
            raise
        if not num_members:
            raise ShardError("unreadable", "not a tar archive") from None
        cut_short(num_members)


def _bytes_of(tar: tarfile.TarFile, header: tarfile.TarInfo, num_before: int) -> bytes:
    content = tar.extractfile(header)
    assert content is not None, header.name
    try:
        return content.read()
    except tarfile.TarError:
        cut_short(num_before)


def _is_listed(name: str) -> bool:
    return is_image(name) and (leads_out(name) or not is_excluded(name))
