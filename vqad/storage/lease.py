"""One run at a time on one output: who holds ``OUTPUT/lease.json`` may write there.

The holder renews it every 10 s. A run that finds it held waits for up to the 30 s that it lives:
where nothing is renewed meanwhile, by the waiter's own clock, its holder is gone and it is taken
over; so it is at once where the holder was a process of this host that is no more. Otherwise the
run is refused. A holder that could not renew in time, or finds another's name, has lost it.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vqad.storage import conditional_writes, output_layout
from vqad.storage.errors import ArchiveError, VqadError

LIFE_S: Final = 30.0
RENEWED_EVERY_S: Final = 10.0
LOOKED_AT_EVERY_S: Final = 1.0


class InUseError(VqadError, ValueError):
    """Another run holds the output."""


class LeaseLostError(VqadError, RuntimeError):
    """The output belongs to another run now; nothing more may be written."""


class Lease:
    """A held lease, renewed by a thread until it is released."""

    def __init__(self, output: str, content: dict[str, Any], tag: str) -> None:
        self.output, self.holder = output, str(content["holder"])
        self._uri, self._content, self._tag = _uri(output), content, tag
        self._ended, self._lost = threading.Event(), ""
        self._renewed_s = time.monotonic()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLostError where the lease is lost."""
        if not self._lost and time.monotonic() - self._renewed_s > LIFE_S:
            self._lost = f"it could not be renewed for {LIFE_S:g} s"
        if self._lost:
            raise LeaseLostError(f"the lease on {self.output} is lost: {self._lost}")

    def release(self) -> None:
        """Leave the output to the next run."""
        self._ended.set()
        self._thread.join()
        with suppress(ArchiveError):  # then it dies by itself
            if not self._lost:
                self._write({"released": True})

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_EVERY_S):
            asked_s = time.monotonic()
            try:
                if self._write({"renewed_at": _now()}):
                    self._renewed_s = asked_s
                    continue
                found = conditional_writes.read(self._uri)
            except ArchiveError:
                continue  # the store may be back before the lease has died
            if found is None or _decoded(found[0]).get("holder") != self.holder:
                self._lost = f"{_holder_of(found)} has taken it over"
                return
            self._tag = found[1]  # of a write of ours that seemed to fail; the next try has it

    def _write(self, changes: dict[str, Any]) -> bool:
        content = self._content | changes
        data = _encoded(content)
        written = conditional_writes.write(self._uri, data, tag=self._tag)
        if written and (found := conditional_writes.read(self._uri)) and found[0] == data:
            self._content, self._tag = content, found[1]
        return written


@contextmanager
def held(output: str, run: str) -> Iterator[Lease]:
    """Hold an output while the block runs. Raises InUseError, naming who has it, after 30 s."""
    lease = _acquired(output, run)
    try:
        yield lease
    finally:
        lease.release()


def confirm(output: str, holder: str) -> None:
    """Raise LeaseLostError where the output is not, or no longer, held by this holder."""
    found = conditional_writes.read(_uri(output))
    if found is None or _decoded(found[0]).get("holder") != holder:
        raise LeaseLostError(f"the lease on {output} is lost: {_holder_of(found)} has it")


def _acquired(output: str, run: str) -> Lease:
    uri, content = _uri(output), _own(run)
    seen, give_up_s = None, time.monotonic() + LIFE_S
    while True:
        found = conditional_writes.read(uri)
        waited = time.monotonic() >= give_up_s
        if found is None or _is_free(found[0]) or (waited and found == seen):
            if conditional_writes.write(uri, _encoded(content), tag=found and found[1]):
                break
        elif waited:
            raise InUseError(
                f"{output} is in use by {_holder_of(found)}; wait for its end, or give another "
                "--output"
            )
        seen = seen or found
        time.sleep(LOOKED_AT_EVERY_S)
    held_now = conditional_writes.read(uri)
    if held_now is None or held_now[0] != _encoded(content):
        raise InUseError(f"{output} is in use by {_holder_of(held_now)}")
    return Lease(output, content, held_now[1])


def _own(run: str) -> dict[str, Any]:
    return {
        "holder": secrets.token_hex(16),
        "run": run,
        "host": socket.gethostname(),
        "system": _system(),
        "pid": os.getpid(),
        "process_started": _process_started(os.getpid()),
        "renewed_at": _now(),
        "released": False,
    }


def _is_free(data: bytes) -> bool:
    """Released, or held by a process of this very system that is no more."""
    content = _decoded(data)
    if content.get("released") is True:
        return True
    pid = content.get("pid")
    if content.get("system") != _system() or not isinstance(pid, int) or not _system():
        return False
    return _process_started(pid) != content.get("process_started")


def _system() -> str:
    """What only processes that see each other's numbers share; "" where that can't be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_started(pid: int) -> str:
    """When, in ticks since the system's start; "" where there is no such process."""
    try:
        # The second field, a name in brackets, may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _holder_of(found: tuple[bytes, str] | None) -> str:
    content = _decoded(found[0]) if found else {}
    return (
        f"run {content.get('run', 'unknown')} on {content.get('host', 'an unknown host')}, "
        f"process {content.get('pid', 'unknown')}"
    )


def _uri(output: str) -> str:
    return output_layout.lease(output)


def _encoded(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:  # half written by somebody who died
        return {}
    return content if isinstance(content, dict) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
