"""What goes wrong between here and a store, in words that stay the same from run to run.

Libraries say it with request ids, addresses and sometimes keys; those end up in tables and logs.
So an exception becomes one of few sentences here, and it is settled what is worth another try:
servers that are busy or gone for a moment, broken connections, short reads; not what would fail
again.
"""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp
from botocore import exceptions as boto

from vqad.storage.errors import ArchiveError, FetchError

# Guesses. Five pauses of 9 s on average let a server restart; a person waits for the short ones.
ATTEMPTS: Final = 6
ATTEMPTS_WATCHED: Final = 3
FIRST_PAUSE_S: Final = 0.4

# The answer to a conditional request whose condition does not hold.
PRECONDITION_FAILED: Final = "the object has changed meanwhile"


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Failure:
    error: str
    detail: str
    remedy: str
    passing: bool = False  # worth another try


def persist(work: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """What ``work`` returns, trying again what may pass; raises FetchError."""
    for attempt in range(attempts):
        try:
            return work()
        except FetchError:
            raise
        except Exception as error:  # s3fs, botocore, aiohttp and the system have no common base
            failure = _explain(error)
            if not failure.passing or attempt == attempts - 1:
                # Without the cause, whose text may hold what must not be shown.
                raise FetchError(failure.error, failure.detail, failure.remedy) from None
        pause(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError(f"attempts must be at least 1, got {attempts}")


@contextmanager
def mendable(uri: str) -> Iterator[None]:
    """Say of what failed where it was and what would do; raises ArchiveError."""
    try:
        yield
    except FetchError as failure:
        raise ArchiveError(f"{uri}: {failure.detail}; {failure.remedy}") from None


def pause(seconds: float) -> None:
    """Sleep; with jitter in ``seconds``, many readers that failed together come back apart."""
    time.sleep(seconds)


def endpoint() -> str:
    """Where S3 is by the standard variables; "" if at AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


_UNREACHED = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.SSLError,
)
_BROKEN = (
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    aiohttp.ClientError,
    ConnectionError,
    TimeoutError,
    EOFError,
)
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
)
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError"})
_BUSY_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN})
_WRONG_KEY_CODES = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


def _explain(error: BaseException) -> _Failure:
    answer = error if isinstance(error, boto.ClientError) else error.__cause__
    if isinstance(answer, boto.ClientError):
        return _explain_answer(answer)
    if isinstance(error, _NO_CREDENTIALS):
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return _Failure(error="denied", detail="no credentials", remedy=remedy)
    if isinstance(error, _UNREACHED):
        return _Failure(
            error="fetch_failed",
            detail="the endpoint cannot be reached",
            remedy=f"it is {endpoint() or 'AWS'}; check AWS_ENDPOINT_URL and the network",
            passing=True,
        )
    if isinstance(error, _BROKEN):
        detail, remedy = "the connection broke or timed out", "try again later"
        return _Failure(error="fetch_failed", detail=detail, remedy=remedy, passing=True)
    if isinstance(error, boto.BotoCoreError):
        detail = f"the S3 client refuses with {type(error).__name__}"
        return _Failure(error="fetch_failed", detail=detail, remedy="check the AWS settings")
    return _explain_local(error)


def _explain_answer(answer: boto.ClientError) -> _Failure:
    code = str(answer.response.get("Error", {}).get("Code", ""))
    status = int(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        remedy = "check its name, or create it"
        return _Failure(error="missing", detail="no such bucket", remedy=remedy)
    if status == 412:
        remedy = "let nothing else write there"
        return _Failure(error="fetch_failed", detail=PRECONDITION_FAILED, remedy=remedy)
    if status == 404:
        return _Failure(error="missing", detail="no such object", remedy="check the name")
    if code in _WRONG_KEY_CODES:
        remedy = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return _Failure(error="denied", detail=f"access denied ({code})", remedy=remedy)
    if status in (401, 403):
        remedy = "check the permissions of the key in AWS_ACCESS_KEY_ID"
        return _Failure(error="denied", detail="access denied", remedy=remedy)
    passing = status >= 500 or status == 429 or code in _BUSY_CODES
    return _Failure(
        error="fetch_failed",
        detail=f"the store answered {code or status}",
        remedy="try again later" if passing else "check AWS_ENDPOINT_URL and AWS_REGION",
        passing=passing,
    )


def _explain_local(error: BaseException) -> _Failure:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _Failure(error="missing", detail="no such file or folder", remedy="check the path")
    if isinstance(error, PermissionError):
        remedy = "check its permissions"
        return _Failure(error="denied", detail="access denied", remedy=remedy)
    number = error.errno if isinstance(error, OSError) else None
    detail = os.strerror(number).lower() if number else f"failed with {type(error).__name__}"
    return _Failure(
        error="fetch_failed",
        detail=detail,
        remedy="check the disk",
        passing=number in _BUSY_ERRNOS,
    )
