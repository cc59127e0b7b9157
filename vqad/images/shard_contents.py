"""The result and the errors that the tar reader and the Parquet reader share."""

from collections.abc import Callable
from typing import NoReturn

from vqad.storage.errors import FetchError

# Name, size in bytes, a function that reads the bytes, and why they must not be read ("" if they
# may be).
Content = tuple[str, int, Callable[[], bytes], str]


class ShardError(FetchError):
    """A shard that can't be read further: one row stands for all members that were not read."""


def cut_short(num_members: int) -> NoReturn:
    """Raise the error of a shard that is broken after this many members."""
    raise ShardError(
        "archive_truncated", f"the archive ends early or is broken after {num_members} members"
    )


def leads_out(name: str) -> bool:
    """True for a name that would be outside the archive if it were unpacked."""
    return name.startswith("/") or ".." in name.split("/")
