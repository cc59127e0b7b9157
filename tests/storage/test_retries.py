"""What is said of failures, and which of them are worth another try."""

import builtins
import copy
import errno
import subprocess
import sys
from collections.abc import Callable

import aiohttp
import pytest
from botocore import exceptions as boto
from hypothesis import given, settings
from hypothesis import strategies as st

from vqad.storage import retries
from vqad.storage.errors import FetchError
from vqad.storage.retries import with_retries


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(retries, "pause", waited.append)
    return waited


def answer(status: int, code: str) -> OSError:
    """As s3fs raises it: an error of the system, caused by botocore's."""
    error = OSError("request id 4711 of key AKIA123")
    error.__cause__ = boto.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )
    return error


def failing(error: Exception, times: int = 1000) -> Callable[[], str]:
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


PASSING = {
    "the store answered SlowDown": answer(503, "SlowDown"),
    "the store answered InternalError": answer(500, "InternalError"),
    "the store answered 429": answer(429, ""),
    "the store answered RequestTimeout": answer(400, "RequestTimeout"),
    "the connection broke or timed out": ConnectionResetError(),
    "the endpoint cannot be reached": boto.EndpointConnectionError(endpoint_url="http://a:1"),
    "input/output error": OSError(errno.EIO, "Input/output error", "/mnt/secret"),
}
LASTING = {
    "no such object": ("missing", answer(404, "NoSuchKey")),
    "no such bucket": ("missing", answer(404, "NoSuchBucket")),
    "access denied": ("denied", answer(403, "AccessDenied")),
    "access denied (InvalidAccessKeyId)": ("denied", answer(403, "InvalidAccessKeyId")),
    "no credentials": ("denied", boto.NoCredentialsError()),
    "no such file or folder": ("missing", FileNotFoundError(errno.ENOENT, "no", "/mnt/secret")),
    "the store answered InvalidRequest": ("fetch_failed", answer(400, "InvalidRequest")),
    "file name too long": ("fetch_failed", OSError(errno.ENAMETOOLONG, "", "/mnt/secret")),
    "read-only file system": ("fetch_failed", OSError(errno.EROFS, "Dateisystem", "/mnt/secret")),
    "the system answered EMFILE": ("fetch_failed", OSError(errno.EMFILE, "AKIA123")),
    "the system answered 9999": ("fetch_failed", OSError(9999, "AKIA123")),
    "the store answered 418": ("fetch_failed", answer(418, "<html>\nkey AKIA123</html>")),
    "failed with ZeroDivisionError": ("fetch_failed", ZeroDivisionError("AKIA123")),
    "the S3 client refuses with ProfileNotFound": (
        "fetch_failed",
        boto.ProfileNotFound(profile="AKIA123"),
    ),
}


@pytest.mark.parametrize("detail", PASSING)
def test_what_may_pass_is_tried_again_a_bounded_number_of_times(
    detail: str, pauses: list[float]
) -> None:
    assert with_retries(failing(PASSING[detail], times=5)) == "done"
    with pytest.raises(FetchError) as caught:
        with_retries(failing(PASSING[detail], times=6))
    assert (caught.value.error, str(caught.value)) == ("fetch_failed", detail)
    assert len(pauses) == 5 + 5


@pytest.mark.parametrize("detail", LASTING)
def test_what_would_fail_again_fails_at_once_in_stable_words(
    detail: str, pauses: list[float]
) -> None:
    error, cause = LASTING[detail]
    with pytest.raises(FetchError) as caught:
        with_retries(failing(cause, times=1))
    assert (caught.value.error, str(caught.value)) == (error, detail)
    assert caught.value.remedy
    assert not pauses


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        aiohttp.ClientPayloadError("short"),
        EOFError("3 bytes of 5"),
        boto.ReadTimeoutError(endpoint_url="http://a:1"),
        boto.ConnectionClosedError(endpoint_url="http://a:1"),
    ],
)
def test_broken_connections_and_short_reads_may_pass(error: Exception, pauses: list[float]) -> None:
    assert with_retries(failing(error, times=2)) == "done"
    assert len(pauses) == 2


def test_pauses_double_and_are_never_quite_the_same(pauses: list[float]) -> None:
    with pytest.raises(FetchError):
        with_retries(failing(answer(503, "SlowDown")))
    for pause_s, longest_s in zip(pauses, (0.4, 0.8, 1.6, 3.2, 6.4), strict=True):
        assert longest_s / 2 <= pause_s <= longest_s
    first = list(pauses)
    with pytest.raises(FetchError):
        with_retries(failing(answer(503, "SlowDown")))
    assert pauses[5:] != first


def test_nothing_of_the_cause_is_left_to_be_printed(pauses: list[float]) -> None:
    with pytest.raises(FetchError) as caught:
        with_retries(failing(answer(403, "AccessDenied")))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "AKIA123" not in f"{caught.value}{caught.value!r}"


@settings(deadline=None)
@given(text=st.text(min_size=8, max_size=40), status=st.integers(100, 599))
def test_no_text_of_a_library_or_store_gets_into_the_words(text: str, status: int) -> None:
    odd = f"<{text}>"
    builtin = [each for each in vars(builtins).values() if isinstance(each, type)]
    plain = [each for each in builtin if issubclass(each, Exception) and "Unicode" not in str(each)]
    errors = [each(odd, [ValueError()]) if "Group" in str(each) else each(odd) for each in plain]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retries, "pause", lambda _: None)
        for error in (*errors, answer(status, odd)):
            with pytest.raises(FetchError) as caught:
                with_retries(failing(error))
            assert odd not in f"{caught.value.detail}{caught.value.remedy}"
            assert caught.value.detail.isascii()
            assert "\n" not in caught.value.detail


def test_a_fetch_error_survives_being_sent_to_another_process() -> None:
    error = copy.copy(FetchError("denied", "access denied", "ask"))
    assert (error.error, error.detail, error.remedy) == ("denied", "access denied", "ask")


def test_a_local_error_is_explained_without_the_client_of_object_storage() -> None:
    code = (
        "import sys\n"
        "from vqad.storage import errors, files\n"
        "try: files.read_bytes('/nowhere/1.png', max_bytes=1)\n"
        "except errors.FetchError as error: print(error.error, 'botocore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "missing False\n"
