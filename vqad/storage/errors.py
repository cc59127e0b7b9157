"""The errors of the program, and when each of them means that work has begun.

Every error that a user can mend is a `VqadError` and says what was found, where, and what would
do. Whether a command then ends with exit code 2 (nothing was started) or 1 (work began and is
incomplete) follows from where the error was raised: inside `work_begun` it is an
`IncompleteError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vqad.tables import ERRORS

# Errors that are the store's and say nothing of the image, which may be readable the next time.
OF_THE_STORE: Final = ("missing", "denied", "fetch_failed")


class VqadError(Exception):
    """Any error that a user can mend; the message says what was found, where, and what would do."""

    details: str = ""  # the traceback of a worker, which goes to a file


class IncompleteError(VqadError, RuntimeError):
    """Work began and could not be finished."""


def details_of(error: BaseException | None) -> str:
    """The worker's traceback that an error, or one of its causes, carries; else ""."""
    while error is not None:
        if isinstance(error, VqadError) and error.details:
            return error.details
        error = error.__cause__
    return ""


@contextmanager
def work_begun() -> Iterator[None]:
    """Turn whatever a user can mend into an IncompleteError: from here on, something is written."""
    try:
        yield
    except IncompleteError:
        raise
    except (VqadError, ValueError, OSError) as error:
        raise IncompleteError(str(error)) from error


class ArchiveError(VqadError, ValueError):
    """A place that can't be listed, read or written; the message says what would do."""


class FetchError(ArchiveError):
    """Bytes that could not be had: ``error`` is one of ``tables.ERRORS``, ``detail`` says more."""

    def __init__(self, error: str, detail: str, remedy: str = "") -> None:
        assert error in ERRORS, error
        super().__init__(error, detail, remedy)
        self.error = error
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return self.detail
