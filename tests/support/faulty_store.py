"""A proxy on loopback in front of an S3 server that makes some of its responses fail.

    python -m tests.support.faulty_store http://127.0.0.1:8333 --share 0.05

Requests keep their Host header, because their signatures include it.
"""

import argparse
import http.client
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

FAULTS = ("truncated", "503 SlowDown", "500 InternalError", "reset", "reset after")


@dataclass
class Faults:
    """Which requests fail: a random share of all, and every read of some objects."""

    behind: str  # endpoint of the real server
    share: float = 0.0
    denied: set[str] = field(default_factory=set)  # /bucket/key, for reads only
    lost: set[str] = field(default_factory=set)
    seed: int = 0
    endpoint: str = ""
    counts: Counter[str] = field(default_factory=Counter)  # of requests and faults
    reads: Counter[str] = field(default_factory=Counter)  # GET requests by /bucket/key

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def next(self, method: str, path: str) -> str:
        """The fault of the next request; "" for none."""
        with self._lock:
            self.counts["requests"] += 1
            self.reads[path] += method == "GET"
            kind = ""
            if method == "GET" and path in self.denied:
                kind = "403 AccessDenied"
            elif method == "GET" and path in self.lost:
                kind = "404 NoSuchKey"
            elif self._random.random() < self.share:
                # Only a response with a body can be truncated.
                kind = self._random.choice(FAULTS if method == "GET" else FAULTS[1:])
            self.counts[kind] += bool(kind)
            return kind


@contextmanager
def faulty_store(faults: Faults) -> Iterator[Faults]:
    """Run the proxy during the block."""
    server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"faults": faults}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    faults.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Print nothing: killed clients break their connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # whatever the method
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.faults.next(self.command, unquote(urlsplit(self.path).path))
        if kind == "reset":
            return self._reset()
        if kind and kind[0] in "345":
            return self._error(kind)
        status, headers, data = self._forward(body)
        if kind == "reset after":  # the request was done, but its response is lost
            return self._reset()
        short = data[: len(data) // 2] if kind == "truncated" else data
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", str(len(data)) if data else length or "0")
        self.end_headers()
        self.wfile.write(short)
        if len(short) < len(data):
            self._reset()
        return None

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        behind = http.client.HTTPConnection(urlsplit(self.faults.behind).netloc, timeout=60)
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "connection":
                behind.putheader(name, value)
        behind.endheaders(body)
        answer = behind.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        behind.close()
        return found

    def _error(self, kind: str) -> None:
        status, code = kind.split()
        body = f"<Error><Code>{code}</Code><RequestId>4711</RequestId></Error>".encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("behind")
    parser.add_argument("--share", type=float, default=0.05)
    options = parser.parse_args()
    with faulty_store(Faults(behind=options.behind, share=options.share)) as faults:
        sys.stdout.write(f"{faults.endpoint}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
