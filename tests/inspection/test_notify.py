"""The webhook: what arrives, what is tried again, and that no night waits for it or fails by it."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.inspection.test_history import summary_of
from vqad.inspection import notify
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring, shown_url

JOB = InspectJob(archive="s3://f/2026-11-24", models="s3://f/models", output="s3://f/out")
KEY = "key-of-the-channel"


class Receiver:
    """A server on loopback that answers with the statuses it is given, then with 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(notify, "FIRST_PAUSE_S", 0.01)
    monkeypatch.delenv(notify.SECRET, raising=False)
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def send(url: str) -> tuple[bool, list[str]]:
    said: list[str] = []
    content = notify.message(JOB, summary_of(6, 2), code=0)
    return notify.send(url, content, said.append), said


def test_summary_and_warnings_arrive_with_a_signature_of_their_bytes(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notify.SECRET, "of the house")
    assert send(f"{receiver.url}/hook?to=line1") == (True, [])
    ((path, headers, body),) = receiver.got
    assert path == "/hook?to=line1"
    assert headers["Content-Type"] == "application/json"
    expected = hmac.new(b"of the house", body, hashlib.sha256).hexdigest()
    assert headers["X-Vqad-Signature"] == f"sha256={expected}"
    found = json.loads(body)
    assert (found["event"], found["exit_code"], found["error"]) == ("vqad inspect", 0, "")
    assert (found["archive"], found["output"]) == (JOB.archive, JOB.output)
    assert found["summary"]["images"] == 8
    assert found["summary"]["defect"] == 2
    assert found["warnings"] == []


def test_without_a_secret_there_is_no_signature(receiver: Receiver) -> None:
    assert send(receiver.url)[0]
    assert "X-Vqad-Signature" not in receiver.got[0][1]


def test_a_server_that_is_busy_is_asked_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    assert send(receiver.url) == (True, [])
    assert len(receiver.got) == 3


@pytest.mark.parametrize(("status", "num_asked"), [(404, 1), (500, 4), (302, 1), (307, 1)])
def test_a_refusal_is_one_line_that_does_not_show_the_path(
    receiver: Receiver, status: int, num_asked: int
) -> None:
    receiver.statuses = [status] * 9
    sent, said = send(f"{receiver.url}/{KEY}")
    assert not sent
    assert said == [
        f"warning: {receiver.url}/... was not notified: it answered with status {status}"
    ]
    assert len(receiver.got) == num_asked
    assert {path for path, _, _ in receiver.got} == {f"/{KEY}"}  # no redirect was followed


def test_a_server_that_is_not_there_is_one_line(
    receiver: Receiver,
) -> None:
    receiver.server.server_close()
    sent, (line,) = send(f"{receiver.url}/{KEY}")
    assert not sent
    assert "was not notified: no connection (" in line
    assert KEY not in line


def test_a_server_that_never_answers_is_given_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "DEADLINE_S", 0.2)
    forever = threading.Event()
    monkeypatch.setattr(notify, "_attempts", lambda *_: forever.wait(30) and "")
    sent, said = send(receiver.url)
    assert not sent
    assert said == [f"warning: {receiver.url} was not notified: no answer within 0.2 s"]
    forever.set()


def test_a_night_that_failed_is_told_with_its_error() -> None:
    found = notify.message(JOB, None, code=1, error="the output cannot be written")
    assert (found["exit_code"], found["error"]) == (1, "the output cannot be written")
    assert (found["summary"], found["warnings"]) == ({}, [])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "host/x",
        "http://",
        "https://user:secret@host/x",
        "http://host/a b",
        "http://host/x\r\nHeader: y",
        "",
    ],
)
def test_what_is_no_plain_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="notify must be http://HOST") as refused:
        Monitoring(notify=url)
    assert "secret@" not in str(refused.value)


def test_a_url_is_shown_without_its_path() -> None:
    assert Monitoring(notify=f"https://hooks.example.com/{KEY}?a=b").notify
    assert shown_url(f"--notify=https://hooks.example.com/{KEY}?a=b") == (
        "--notify=https://hooks.example.com/..."
    )
    assert shown_url("http://10.0.0.1:8080") == "http://10.0.0.1:8080"
    assert shown_url("--models=s3://f/models") == "--models=s3://f/models"
