"""Bytes that were changed at random, so that a reader gets deep into them before it is surprised.

A change alone would mostly be caught by a checksum. So where a format has one, it is put right
again after half of the changes.
"""

import gzip
import json
import random
import struct
import zlib
from typing import Any, Final

_LENGTHS: Final = (1, 2, 4, 8)
# Sizes and offsets at which programs are known to slip.
_NUMBERS: Final = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**16, 2**24, 2**31 - 1)
_LARGE_NUMBERS: Final = (2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)
_LEAVES: Final[tuple[Any, ...]] = (
    *(None, True, "", "\ud800", "x" * 1000, "../x", [], {}, [[]], {"": {}}, -1, 0, 1.5, 1e308),
    *(float("nan"), float("inf"), 10**30, 2**63, -(2**63), "9" * 100),
)


def changed(data: bytes, others: list[bytes], random_: random.Random) -> bytes:
    """The data after one to four changes, each of a few bytes or of a range."""
    found = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        change = random_.choice([_flip, _overwrite, _number, _cut_out, _repeat, _insert, _end])
        change(found, random_)
    if random_.random() < 0.1:  # the beginning of one file and the end of another
        other = random_.choice(others)
        found[random_.randrange(len(found) + 1) :] = other[random_.randrange(len(other) + 1) :]
    return bytes(found)


def _place(data: bytearray, random_: random.Random) -> int:
    """Anywhere, but mostly where headers are: at the beginning, at the end, in blocks of tar."""
    near = random_.random()
    start = 0
    if near < 0.2:
        start = max(0, len(data) - 2000)
    elif near < 0.5:
        start = 512 * random_.randrange(len(data) // 512 + 1)
    length = len(data) - start
    return start + random_.randrange((length if near < 0.2 or near > 0.8 else min(length, 200)) + 1)


def _flip(data: bytearray, random_: random.Random) -> None:
    for at in {_place(data, random_) for _ in range(random_.randint(1, 8))}:
        if at < len(data):
            data[at] ^= 1 << random_.randrange(8)


def _overwrite(data: bytearray, random_: random.Random) -> None:
    start, length = _place(data, random_), random_.choice((1, 2, 8, 64, 512))
    length = min(length, len(data) - start)
    fill = random_.choice((b"\0", b"\xff", b"\x80", b"9"))
    data[start : start + length] = (
        fill * length if random_.random() < 0.5 else random_.randbytes(length)
    )


def _number(data: bytearray, random_: random.Random) -> None:
    length, order = random_.choice(_LENGTHS), random_.choice(("little", "big"))
    start = _place(data, random_)
    number = random_.choice((*_NUMBERS, *_LARGE_NUMBERS, len(data), random_.getrandbits(64)))
    number &= (1 << 8 * length) - 1
    data[start : start + length] = number.to_bytes(length, order)


def _cut_out(data: bytearray, random_: random.Random) -> None:
    start = _place(data, random_)
    del data[start : start + random_.choice((1, 4, 100, 512, 1000))]


def _repeat(data: bytearray, random_: random.Random) -> None:
    start, length = _place(data, random_), random_.choice((1, 16, 512))
    data[start:start] = data[start : start + length] * random_.choice((1, 2, 50))


def _insert(data: bytearray, random_: random.Random) -> None:
    start = _place(data, random_)
    data[start:start] = random_.randbytes(random_.choice((1, 4, 64, 512)))


def _end(data: bytearray, random_: random.Random) -> None:
    del data[random_.randrange(len(data) + 1) :]


def with_right_checksums(kind: str, data: bytes) -> bytes:
    """The same data with the checksums of the format PNG or tar put right where there are any."""
    return {"png": _right_png, "tar": _right_tar}.get(kind, bytes)(data)


def _right_png(data: bytes) -> bytes:
    found, start = bytearray(data), 8
    while start + 12 <= len(found):
        (length,) = struct.unpack_from(">I", found, start)
        end = start + 12 + length
        if end > len(found):
            break
        struct.pack_into(">I", found, end - 4, zlib.crc32(found[start + 4 : end - 4]))
        start = end
    return bytes(found)


def _right_tar(data: bytes) -> bytes:
    found = bytearray(data)
    for start in range(0, len(found) - 511, 512):
        block = found[start : start + 512]
        if block[257:262] == b"ustar" or block[148:156].strip(b"\0 ").isdigit():
            block[148:156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(found)


def packed(data: bytes, random_: random.Random) -> bytes:
    """A gzip file of the data that is itself changed in half of all cases."""
    found = gzip.compress(data, random_.choice((0, 1, 9)))
    return changed(found, [found], random_) if random_.random() < 0.5 else found


def json_changed(data: bytes, random_: random.Random) -> bytes:
    """A JSON object of which some values were replaced, removed or added."""
    found = json.loads(data)
    for _ in range(random_.randint(1, 3)):
        place = _somewhere(found, random_)
        if not place:
            continue
        key = random_.choice(list(place) if isinstance(place, dict) else range(len(place)))
        action = random_.random()
        if action < 0.2:
            del place[key]
        elif action < 0.3 and isinstance(place, dict):
            place[random_.choice(("", "x", "settings", "files", "threshold"))] = place[key]
        else:
            place[key] = random_.choice(_LEAVES)
    return json.dumps(found).encode()


def _somewhere(value: Any, random_: random.Random) -> Any:
    """A random object or list inside a JSON value, itself included."""
    children = list(value.values()) if isinstance(value, dict) else list(value)
    nested = [child for child in children if isinstance(child, dict | list)]
    if nested and random_.random() < 0.7:
        return _somewhere(random_.choice(nested), random_)
    return value


def safetensors_changed(data: bytes, random_: random.Random) -> bytes:
    """Safetensors with a changed JSON header, and the length of the header put right."""
    (length,) = struct.unpack_from("<Q", data)
    header = json_changed(data[8 : 8 + length], random_)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
