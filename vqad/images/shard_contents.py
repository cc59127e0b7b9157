"""The result, the errors and the bounds that the tar reader and the Parquet reader share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from vqad.storage.errors import FetchError, VqadError

# Name, size in bytes, a function that reads the bytes, and why they must not be read ("" if they
# may be).
Content = tuple[str, int, Callable[[], bytes], str]

# Guesses. Every member gets a row, so a small file must not contain millions of them, and it could:
# compression takes a thousandth for empty members. A picture takes more than 16 bytes.
_MOST_MEMBERS: Final = 100_000  # of a file of any size
_FEWEST_BYTES_PER_MEMBER: Final = 16  # beyond these


class ShardError(FetchError):
    """A shard that can't be read further: one row stands for all members that were not read."""


class BrokenShardError(VqadError, ValueError):
    """A reader found what no correct archive contains; the message says what, or is empty."""


# Which exceptions a parser raises for hostile bytes can't be enumerated. So readers catch all of
# them but these: the store's errors say nothing about the shard, nor does a lack of memory.
_NOT_OF_THE_PARSER: Final = (FetchError, MemoryError)


@contextmanager
def first_look(detail: str) -> Iterator[None]:
    """Turn any error of a parser into the ShardError of a file that is no shard at all."""
    try:
        yield
    except _NOT_OF_THE_PARSER:
        raise
    except Exception as error:
        raise ShardError("unreadable", f"{detail} ({type(error).__name__})") from None


@contextmanager
def reading_on(num_members: int) -> Iterator[None]:
    """Turn any error of a parser into the ShardError of a shard broken after ``num_members``."""
    try:
        yield
    except _NOT_OF_THE_PARSER:
        raise
    except BrokenShardError as error:
        cut_short(num_members, str(error))
    except Exception as error:
        cut_short(num_members, type(error).__name__)


def cut_short(num_members: int, reason: str = "") -> NoReturn:
    """Raise the error of a shard that is broken after this many members."""
    detail = f"the archive ends early or is broken after {num_members} members"
    raise ShardError("archive_truncated", f"{detail}: {reason}" if reason else detail) from None


def check_num_members(num_members: int, stored_bytes: int) -> None:
    """Raise BrokenShardError if a shard of this size contains too many members."""
    most = _MOST_MEMBERS + stored_bytes // _FEWEST_BYTES_PER_MEMBER
    if num_members > most:
        raise BrokenShardError(f"more than {most} members in {stored_bytes} bytes")


def leads_out(name: str) -> bool:
    """True for a name that would be outside the archive if it were unpacked."""
    return name.startswith("/") or ".." in name.split("/")
