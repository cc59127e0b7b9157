"""Object storage, as it is and as it fails: SeaweedFS, and a server that does as it is told."""

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.s3_server import S3Server
from vqad.images import listing
from vqad.storage import files, retries, s3
from vqad.storage.errors import ArchiveError, FetchError

pytestmark = pytest.mark.integration


def test_a_listing_of_more_than_one_page_is_whole(bucket: str) -> None:
    names = [f"{number % 3}/{number:05}.png" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: files.write_bytes(f"{bucket}/{name}", b""), names))
    images = [each.image for each in listing.list_images(bucket)]
    assert images == sorted(f"{bucket}/{name}" for name in names)
    assert len(list(s3.pages(bucket.removeprefix("s3://"), ""))) == 2
    assert files.list_names(bucket) == ["0", "1", "2"]


def test_a_listing_sees_what_was_written_since_the_last_one(bucket: str) -> None:
    files.write_bytes(f"{bucket}/a.png", b"")
    assert len(listing.list_images(bucket)) == 1
    files.write_bytes(f"{bucket}/b.png", b"")
    assert len(listing.list_images(bucket)) == 2


def test_a_bucket_that_is_empty_lists_none(bucket: str) -> None:
    assert listing.list_images(bucket) == []
    assert files.exists(bucket)


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(bucket: str) -> None:
    files.write_bytes(f"{bucket}/archive-2/a.png", b"")
    with pytest.raises(ArchiveError) as caught:
        listing.list_images(f"{bucket}/archive")
    expected = f"{bucket}/archive: no objects below it; check bucket and prefix"
    assert str(caught.value) == expected
    assert not files.exists(f"{bucket}/archive")


def test_a_bucket_that_does_not_exist_is_named(s3: S3Server) -> None:
    with pytest.raises(ArchiveError) as caught:
        listing.list_images("s3://no-such-bucket/a")
    expected = "s3://no-such-bucket/a: no such bucket; check its name, or create it"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"),
    ],
)
def test_a_wrong_key_is_said_but_not_shown(
    bucket: str, monkeypatch: pytest.MonkeyPatch, wrong: str, code: str
) -> None:
    monkeypatch.setenv(wrong, "not-the-right-one")
    with pytest.raises(ArchiveError) as caught:
        listing.list_images(bucket)
    expected = (
        f"{bucket}: access denied ({code}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    assert str(caught.value) == expected
    with pytest.raises(FetchError) as denied:
        files.read_bytes(f"{bucket}/a.png", max_bytes=10)
    assert (denied.value.error, denied.value.detail) == ("denied", f"access denied ({code})")


def test_without_credentials_it_is_said_which_variables_to_set(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ArchiveError) as caught:
        listing.list_images(bucket)
    expected = f"{bucket}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert str(caught.value) == expected


def test_many_threads_may_read_at_once(bucket: str) -> None:
    for number in range(20):
        files.write_bytes(f"{bucket}/{number}", str(number).encode())
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(
            lambda number: files.read_bytes(f"{bucket}/{number % 20}", max_bytes=9), range(200)
        )
        assert list(found) == [str(number % 20).encode() for number in range(200)]


def test_a_name_that_no_bucket_can_have_is_said(s3: S3Server) -> None:
    with pytest.raises(ArchiveError, match=r"^s3://a b/c: the S3 client refuses with ParamValid"):
        listing.list_images("s3://a b/c")


@dataclass
class Faults:
    """A server that answers in the order it was told, and after that with an object."""

    endpoint: str = ""
    answers: list[str] = field(default_factory=list)
    num_requests: int = 0


CONTENT = b"0123456789"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    told = Faults()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.num_requests += 1
            kind = told.answers.pop(0) if told.answers else "whole"
            if kind == "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif kind == "hang":
                stopped.wait(20)
            elif kind in ("whole", "short"):
                self._send(200, CONTENT, CONTENT if kind == "whole" else CONTENT[:4])
            else:
                status, code = kind.split()
                body = f"<Error><Code>{code}</Code><RequestId>4711</RequestId></Error>".encode()
                self._send(int(status), body, body)

        def _send(self, status: int, promised: bytes, sent: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(promised)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(sent)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told.endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", told.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(retries, "pause", lambda seconds: None)
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 1)
    yield told
    stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "fault",
    ["503 SlowDown", "500 InternalError", "503 ServiceUnavailable", "reset", "short", "hang"],
)
def test_a_fault_that_passes_costs_only_another_try(faults: Faults, fault: str) -> None:
    faults.answers = [fault] * 2
    assert files.read_bytes("s3://bucket/a.png", max_bytes=10) == CONTENT
    assert faults.num_requests == 3


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("503 SlowDown", "the store answered SlowDown"),
        ("reset", "the connection broke or timed out"),
        ("short", "the connection broke or timed out"),
    ],
)
def test_a_fault_that_lasts_is_given_up_in_stable_words(
    faults: Faults, fault: str, detail: str
) -> None:
    faults.answers = list(itertools.repeat(fault, 100))
    with pytest.raises(FetchError) as caught:
        files.read_bytes("s3://bucket/a.png", max_bytes=10)
    assert (caught.value.error, caught.value.detail) == ("fetch_failed", detail)
    # Where the connection is reset, aiohttp asks once more by itself.
    assert faults.num_requests == retries.ATTEMPTS * (2 if fault == "reset" else 1)


def test_an_object_that_is_too_large_is_not_read(faults: Faults) -> None:
    with pytest.raises(FetchError, match=r"^10 bytes, more than 9$") as caught:
        files.read_bytes("s3://bucket/a.png", max_bytes=9)
    assert caught.value.error == "too_large"
    assert faults.num_requests == 1


def test_an_endpoint_that_is_not_there_is_said_in_seconds(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(ArchiveError) as caught:
            listing.list_images("s3://bucket/a")
    expected = (
        f"s3://bucket/a: the endpoint cannot be reached; it is {endpoint}; "
        "check AWS_ENDPOINT_URL and the network"
    )
    assert str(caught.value) == expected


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "http://", "http://user:pass@127.0.0.1:1"])
def test_an_endpoint_that_is_no_plain_url_is_refused_without_being_shown(
    faults: Faults, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ArchiveError) as caught:
        listing.list_images("s3://bucket/a")
    expected = (
        "s3://bucket/a: the endpoint is not a plain URL; "
        "set AWS_ENDPOINT_URL to http://HOST:PORT or https://HOST"
    )
    assert str(caught.value) == expected
