"""Errors of workers, carried to the driver as data, and Ray's own errors, explained by their class.

What Ray makes of a worker's exception is pages of tracebacks with advice about Ray. A person needs
the sentence that the program itself wrote; the traceback goes to a file.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import ray

from vqad.storage.errors import IncompleteError, VqadError


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as data, which survives the way from a worker to the driver."""

    reason: str  # one line for a person
    traceback: str

    def error(self) -> IncompleteError:
        """The error that the driver raises."""
        error = IncompleteError(self.reason)
        error.details = self.traceback
        return error


def of(error: BaseException) -> Failure:
    """The failure that an exception is. Errors of other libraries are called by their class."""
    text = " ".join(str(error).split())
    is_ours = isinstance(error, VqadError | ValueError | OSError)
    return Failure(
        reason=text if is_ours and text else f"{type(error).__name__}: {text}".rstrip(": "),
        traceback="".join(traceback.format_exception(error)),
    )


_AGAIN: Final = "the same command goes on where it ended"

# The first class that fits decides.
_SENTENCES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (ray.exceptions.OutOfMemoryError, "the machine ran out of memory; {fewer}"),
    (ray.exceptions.ObjectStoreFullError, "Ray's memory for objects is full; {fewer}"),
    (
        ray.exceptions.OutOfDiskError,
        "the disk of Ray's temporary folder is full; make room there, or set TMPDIR to another "
        "folder",
    ),
    (ray.exceptions.NodeDiedError, "a node of the cluster was lost; {again}"),
    (
        ray.exceptions.RayActorError,
        "a worker process ended unexpectedly; {again}, and if it ends again, {fewer}",
    ),
    (
        ray.exceptions.WorkerCrashedError,
        "a worker process ended unexpectedly; {again}, and if it ends again, {fewer}",
    ),
)


def of_ray(error: ray.exceptions.RayError, fewer: str) -> Failure:
    """The failure that an error of Ray is; ``fewer`` says how less memory would be used."""
    if isinstance(error, ray.exceptions.RayTaskError):
        # Its cause is the worker's own exception, without the traceback.
        return Failure(reason=of(error.cause).reason, traceback=str(error))
    for each, sentence in _SENTENCES:
        if isinstance(error, each):
            reason = sentence.format(fewer=fewer, again=_AGAIN)
            return Failure(reason=reason, traceback=str(error))
    return of_other(error)


def of_other(error: BaseException) -> Failure:
    """The failure that an error of Ray is for which there is no sentence of our own."""
    return Failure(reason=f"Ray failed with {type(error).__name__}; {_AGAIN}", traceback=str(error))


@contextmanager
def explained(fewer: str) -> Iterator[None]:
    """Turn an error of Ray into an IncompleteError that says what happened and what would do."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise of_ray(error, fewer).error() from error
