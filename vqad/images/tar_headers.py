"""The members of a tar archive, found header by header, with a bound for everything that adds up.

Python's ``tarfile`` follows extended headers by recursion, keeps every global header, and believes
every size, so an archive of a few kilobytes can end in a RecursionError, run for hours or use up
the memory. Here ``tarfile`` decodes single blocks of 512 bytes, and the loop over them is ours.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from vqad.images.shard_contents import BrokenShardError

# An ordinary member has at most four headers before its own: global, extended, long name, long
# link. Both bounds are guesses far above that.
_MOST_HEADERS: Final = 32  # of one member
_LARGEST_HEADERS_BYTES: Final = 2**20  # of one member, together
_LARGEST_RATIO: Final = 1032  # decompressed to compressed bytes; deflate can't do better

_BLOCK_BYTES: Final = 512
_LONG_NAME, _LONG_LINK, _SPARSE = b"L", b"K", b"S"  # type flags of GNU tar
_GLOBAL, _EXTENDED = b"g", (b"x", b"X")  # of POSIX; they come before the member that they extend
# Links, devices and folders have no data, whatever size their header states.
_WITHOUT_DATA: Final = (b"1", b"2", b"3", b"4", b"5", b"6")

# Keys of extended headers that are used. Others are dropped, or they would add up.
_SPARSE_KEYS: Final = (b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.size")
_NAME_KEYS: Final = (b"GNU.sparse.name", b"path")  # best first
_KEYS: Final = frozenset({*_SPARSE_KEYS, *_NAME_KEYS, b"size"})


@dataclass(frozen=True, kw_only=True)
class Header:
    """One member: its name, its kind, and where its data are."""

    name: str
    kind: bytes  # type flag of the tar format
    is_sparse: bool
    start_byte: int  # of the data, in the decompressed archive
    size_bytes: int

    @property
    def is_file(self) -> bool:
        """True for an ordinary file, False for a folder, a link or a device."""
        return self.kind in tarfile.REGULAR_TYPES

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return self.kind == tarfile.DIRTYPE


@dataclass(kw_only=True)
class _Extended:
    """What the headers before a member's own header say, and what they have used up."""

    records: dict[bytes, bytes]
    num_headers: int = 0
    num_bytes: int = 0

    def count(self, num_bytes: int) -> None:
        """Raise BrokenShardError if the headers of one member exceed a bound."""
        self.num_headers += 1
        self.num_bytes += num_bytes
        if self.num_headers > _MOST_HEADERS:
            raise BrokenShardError(f"a member has more than {_MOST_HEADERS} headers")
        if self.num_bytes > _LARGEST_HEADERS_BYTES:
            raise BrokenShardError(
                f"the headers of a member have more than {_LARGEST_HEADERS_BYTES} bytes"
            )


@dataclass(kw_only=True)
class TarHeaders:
    """The headers of one archive; iterate over it once."""

    file: Any  # seekable, decompressed; it is only moved forward
    stored_bytes: int  # size of the archive as it is stored
    is_packed: bool
    position: int = 0  # where the next header begins
    globals: dict[bytes, bytes] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Header]:
        """Yield members up to the end marker; raises BrokenShardError or any error of decoding."""
        while header := self._next():
            self.position = header.start_byte + _padded(header.size_bytes)
            yield header

    def _next(self) -> Header | None:
        """The next member, or None at the end marker: a block of zeros."""
        extended = _Extended(records=dict(self.globals))
        while any(block := self._take(_BLOCK_BYTES)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            self._check_size(header.size)
            extended.count(_BLOCK_BYTES)
            if header.type in (_GLOBAL, *_EXTENDED, _LONG_NAME, _LONG_LINK):
                extended.count(header.size)
                self._extend(extended, header.type, self._take(_padded(header.size)), header.size)
            else:
                return self._member(header, block, extended)
        return None

    def _extend(self, extended: _Extended, kind: bytes, data: bytes, size_bytes: int) -> None:
        if kind == _LONG_NAME:
            extended.records[b"path"] = data[:size_bytes].partition(b"\0")[0]
        elif kind in _EXTENDED:
            extended.records |= _records(data[:size_bytes])
        elif kind == _GLOBAL:
            found = _records(data[:size_bytes])
            self.globals |= found
            extended.records |= found

    def _member(self, header: tarfile.TarInfo, block: bytes, extended: _Extended) -> Header:
        is_extended = header.type == _SPARSE and block[482]  # more of the sparse map follows
        while is_extended:
            extended.count(_BLOCK_BYTES)
            is_extended = self._take(_BLOCK_BYTES)[504]
        records, size_bytes = extended.records, header.size
        if b"size" in records:
            size_bytes = self._check_size(_number(records[b"size"]))
        names = [records[key] for key in _NAME_KEYS if key in records]
        return Header(
            name=names[0].decode("utf-8", "surrogateescape") if names else header.name,
            kind=header.type,
            is_sparse=header.type == _SPARSE or any(key in records for key in _SPARSE_KEYS),
            start_byte=self.position,
            size_bytes=0 if header.type in _WITHOUT_DATA else size_bytes,
        )

    def _take(self, num_bytes: int) -> bytes:
        self.file.seek(self.position)
        data = self.file.read(num_bytes)
        if len(data) < num_bytes:
            raise BrokenShardError
        self.position += num_bytes
        return data

    def _check_size(self, size_bytes: int) -> int:
        """Compare a size with what the rest of the archive can contain, before it is read."""
        largest = self.stored_bytes * (_LARGEST_RATIO if self.is_packed else 1)
        if not 0 <= size_bytes <= largest - self.position:
            raise BrokenShardError("a member states a size that the archive can't contain")
        return size_bytes


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def _number(value: bytes) -> int:
    """Digits as a number. 19 digits are enough for any size; more would take long to convert."""
    if not re.fullmatch(rb"\d{1,19}", value):
        raise BrokenShardError("a member states a size that is no number")
    return int(value)


_RECORD: Final = re.compile(rb"(\d{1,7}) ([^=]{1,255})=")


def _records(data: bytes) -> dict[bytes, bytes]:
    """The records "LENGTH KEY=VALUE" of an extended header, as far as they are well-formed.

    If a record is malformed, the rest is dropped. Should the member's size be among it, then the
    next header isn't found where it is expected, and the archive is known to be broken.
    """
    found, start = {}, 0
    while match := _RECORD.match(data, start):
        end = start + int(match[1])
        if end <= match.end():  # shorter than its own key: following it would never come to an end
            break
        if match[2] in _KEYS:
            found[match[2]] = data[match.end() : end - 1]
        start = end
    return found
