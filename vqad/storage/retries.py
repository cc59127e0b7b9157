"""Retries of storage requests, and one stable sentence per kind of storage error.

The exceptions of the libraries contain request ids, addresses and sometimes keys, and would put
them into tables and logs. This module maps every exception to one of a few fixed sentences. It
also decides which errors are retried: busy or restarting servers, broken connections and short
reads are; errors that would occur again are not.
"""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp
from botocore import exceptions as boto

from vqad.storage.errors import ArchiveError, FetchError

# Guesses. The five pauses take 9 s on average, long enough for a server to restart. Requests that
# a person waits for are tried fewer times.
ATTEMPTS: Final = 6
ATTEMPTS_INTERACTIVE: Final = 3
FIRST_PAUSE_S: Final = 0.4

# Detail of the error that a conditional request raises if its condition is not met.
PRECONDITION_FAILED: Final = "the object has changed meanwhile"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Failure:
    error: str
    detail: str
    remedy: str
    is_transient: bool = False  # a retry may succeed


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


def endpoint() -> str:
    """The S3 endpoint from the standard AWS variables; "" means AWS itself."""
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
_CODE = re.compile("[A-Za-z0-9.]{1,64}")
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
            is_transient=True,
        )
    if isinstance(error, _BROKEN):
        detail, remedy = "the connection broke or timed out", "try again later"
        return _Failure(error="fetch_failed", detail=detail, remedy=remedy, is_transient=True)
    if isinstance(error, boto.BotoCoreError):
        detail = f"the S3 client refuses with {type(error).__name__}"
        return _Failure(error="fetch_failed", detail=detail, remedy="check the AWS settings")
    return _explain_local(error)


def _explain_answer(answer: boto.ClientError) -> _Failure:
    code = str(answer.response.get("Error", {}).get("Code", ""))
    code = code if _CODE.fullmatch(code) else ""  # a broken store may answer with a whole page
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
    is_transient = status >= 500 or status == 429 or code in _BUSY_CODES
    return _Failure(
        error="fetch_failed",
        detail=f"the store answered {code or status}",
        remedy="try again later" if is_transient else "check AWS_ENDPOINT_URL and AWS_REGION",
        is_transient=is_transient,
    )


def _in_words(number: int) -> str:
    """The system's error in words of our own: ``os.strerror`` differs by system and language."""
    words = _ERRNO_WORDS.get(number)
    return words or f"the system answered {errno.errorcode.get(number, number)}"


def _explain_local(error: BaseException) -> _Failure:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _Failure(error="missing", detail="no such file or folder", remedy="check the path")
    if isinstance(error, PermissionError):
        remedy = "check its permissions"
        return _Failure(error="denied", detail="access denied", remedy=remedy)
    number = error.errno if isinstance(error, OSError) else None
    detail = _in_words(number) if number else f"failed with {type(error).__name__}"
    return _Failure(
        error="fetch_failed",
        detail=detail,
        remedy="check the disk",
        is_transient=number in _BUSY_ERRNOS,
    )
