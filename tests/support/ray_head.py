"""The head of a Ray cluster on loopback, with token authentication and a job server."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.s3_server import free_ports

READY_WITHIN_S = 60
GONE_WITHIN_S = 5


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where its job server is, its token, and where it keeps its logs and packages."""

    address: str
    token: str
    folder: Path

    @property
    def authentication(self) -> dict[str, str]:
        """What a client of it needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


# All ports of a node that Ray would else choose itself, and clash with another Ray of this host.
_PORTS = (
    *("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"),
    *("runtime-env-agent-port", "metrics-export-port", "ray-client-server-port"),
    *("node-manager-port", "object-manager-port"),
)


@contextmanager
def ray_head(environment: dict[str, str]) -> Iterator[Head]:
    """A head whose job server answers, until the block is left."""
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    # Not in pytest's folder: the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="vqad-ray-", ignore_cleanup_errors=True) as folder:
        head = Head(
            address=f"http://127.0.0.1:{ports['dashboard-port']}",
            token=secrets.token_hex(20),
            folder=Path(folder),
        )
        process = _started(head, ports, environment)
        try:
            _wait_until_ready(process, head)
            yield head
        finally:
            _end(process)


def _started(
    head: Head, ports: dict[str, int], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    ray = shutil.which("ray", path=Path(sys.executable).parent)
    assert ray, f"no program ray beside {sys.executable}"
    command = [
        # A GPU in name: what Ray asks of stages and workers with one is asked here.
        *(ray, "start", "--head", "--block", "--num-cpus=2", "--num-gpus=1"),
        f"--temp-dir={head.folder}",
        # Ray takes 127.0.0.1 for a wish to be told its outside address.
        *("--node-ip-address=127.0.0.2", "--dashboard-host=127.0.0.1", "--include-dashboard=true"),
        *("--object-store-memory=200000000", "--disable-usage-stats"),
        *("--min-worker-port=0", "--max-worker-port=0"),  # whatever is free
        *(f"--{name}={port}" for name, port in ports.items()),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    with (head.folder / "head.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=head.folder,
            env=environment | head.authentication | {"PATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], head: Head) -> None:
    """Ready is who can take a job: the agent that starts it comes after the server."""
    give_up_s = time.monotonic() + READY_WITHIN_S
    asked = urllib.request.Request(
        f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"}
    )
    while True:
        try:
            urllib.request.urlopen(asked, timeout=5).close()
            return
        except (urllib.error.URLError, OSError) as error:
            alive = process.poll() is None
            if not alive or time.monotonic() > give_up_s:
                log = (head.folder / "head.log").read_text()[-2000:]
                raise RuntimeError(f"no head: {error}\n{log}") from error
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GONE_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
