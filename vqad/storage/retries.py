"""Retries of storage requests, and one stable sentence per kind of storage error.

The exceptions of the libraries contain request ids, addresses and sometimes keys, and would put
them into tables and logs. This module maps every exception to one of a few fixed sentences, those
of the S3 client by `s3_failures`. It also decides which errors are retried: busy or restarting
servers, broken connections and short reads are; errors that would occur again are not.
"""

import errno
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from vqad.storage.errors import ArchiveError, FetchError
from vqad.storage.failure import BROKEN, Failure

# Guesses. The five pauses take 9 s on average, long enough for a server to restart. Requests that
# a person waits for are tried fewer times.
ATTEMPTS: Final = 6
ATTEMPTS_INTERACTIVE: Final = 3
FIRST_PAUSE_S: Final = 0.4

T = TypeVar("T")


def with_retries(work: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Call ``work`` until it succeeds or fails for good; raises FetchError."""
    for attempt in range(attempts):
        try:
            return work()
        except FetchError:
            raise
        except Exception as error:  # s3fs, botocore, aiohttp and the system have no common base
            failure = _explain(error)
            if not failure.is_transient or attempt == attempts - 1:
                # "from None": the text of the cause may contain secrets.
                raise FetchError(failure.error, failure.detail, failure.remedy) from None
        pause(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError(f"attempts must be at least 1, got {attempts}")


@contextmanager
def errors_at(uri: str) -> Iterator[None]:
    """Turn a FetchError into an ArchiveError that names the place and a remedy."""
    try:
        yield
    except FetchError as failure:
        raise ArchiveError(f"{uri}: {failure.detail}; {failure.remedy}") from None


def pause(seconds: float) -> None:
    """Sleep. The caller adds jitter, so that readers that fail together retry at other times."""
    time.sleep(seconds)


_BROKEN = (ConnectionError, TimeoutError, EOFError)
_BUSY_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN})
_ERRNO_WORDS = {
    errno.EDQUOT: "disk quota exceeded",
    errno.EIO: "input/output error",
    errno.EISDIR: "is a directory",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENAMETOOLONG: "file name too long",
    errno.ENOSPC: "no space left on device",
    errno.EROFS: "read-only file system",
    errno.ESTALE: "stale file handle",
}


def _explain(error: BaseException) -> Failure:
    # Only a loaded client raises its exceptions. Local work does not load it to look at an error.
    if "botocore" in sys.modules:
        from vqad.storage import s3_failures

        if found := s3_failures.explain(error):
            return found
    return BROKEN if isinstance(error, _BROKEN) else _explain_local(error)


def _in_words(number: int) -> str:
    """The system's error in words of our own: ``os.strerror`` differs by system and language."""
    words = _ERRNO_WORDS.get(number)
    return words or f"the system answered {errno.errorcode.get(number, number)}"


def _explain_local(error: BaseException) -> Failure:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Failure(error="missing", detail="no such file or folder", remedy="check the path")
    if isinstance(error, PermissionError):
        remedy = "check its permissions"
        return Failure(error="denied", detail="access denied", remedy=remedy)
    number = error.errno if isinstance(error, OSError) else None
    detail = _in_words(number) if number else f"failed with {type(error).__name__}"
    return Failure(
        error="fetch_failed",
        detail=detail,
        remedy="check the disk",
        is_transient=number in _BUSY_ERRNOS,
    )
