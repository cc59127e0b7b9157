"""A lease that lets one run at a time write to an output: ``OUTPUT/lease.json``.

The holder renews the lease every 10 s, and the lease expires 30 s after its last renewal. A run
that finds the lease held watches it for up to 30 s of its own clock, so the clocks of two hosts
need not agree. If the lease is not renewed in that time, its holder is gone and the run takes it
over. It does so at once if the holder was a process of this host that no longer exists. If the
lease is renewed, the run is refused. A holder loses its lease if it can't renew in time, or if it
finds another holder's name in the file.
"""

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

from vqad.storage import conditional_writes, json_objects, output_layout
from vqad.storage.errors import ArchiveError, VqadError

LIFE_S: Final = 30.0
RENEWED_EVERY_S: Final = 10.0
LOOKED_AT_EVERY_S: Final = 1.0


class InUseError(VqadError, ValueError):
    """Another run has the lease on the output."""


class LeaseLostError(VqadError, RuntimeError):
    """The lease has expired or another run has it; this run must write nothing more."""


def new_run() -> str:
    """A name for a run: the time of its start, and a few characters that no other run has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class Lease:
    """A lease on an output; a thread renews it until it is released."""

    def __init__(self, output: str, content: dict[str, Any], tag: str) -> None:
        self.output, self.holder = output, str(content["holder"])
        self._uri, self._content, self._tag = _uri(output), content, tag
        self._ended, self._lost = threading.Event(), ""
        self._renewed_s = time.monotonic()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLostError if the lease is lost."""
        if not self._lost and time.monotonic() - self._renewed_s > LIFE_S:
            self._lost = f"it could not be renewed for {LIFE_S:g} s"
        if self._lost:
            raise LeaseLostError(f"the lease on {self.output} is lost: {self._lost}")

    def release(self) -> None:
        """Stop renewing, and let the next run take the output at once."""
        self._ended.set()
        self._thread.join()
        with suppress(ArchiveError):  # if this write fails, the lease expires by itself
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
                continue  # the store may answer again before the lease expires
            if found is None or _decoded(found[0]).get("holder") != self.holder:
                self._lost = f"{_holder_of(found)} has taken it over"
                return
            # Our own name is in it: an earlier write of ours failed here but reached the store.
            # The next renewal must be conditional on that write's tag.
            self._tag = found[1]

    def _write(self, changes: dict[str, Any]) -> bool:
        content = self._content | changes
        data = json_objects.encoded(content)
        written = conditional_writes.write(self._uri, data, tag=self._tag)
        if written and (found := conditional_writes.read(self._uri)) and found[0] == data:
            self._content, self._tag = content, found[1]
        return written


@contextmanager
def held(output: str, run: str) -> Iterator[Lease]:
    """Have the lease on an output while the block runs.

    Raises InUseError, which names the current holder, after 30 s of waiting.
    """
    lease = _acquired(output, run)
    try:
        yield lease
    finally:
        lease.release()


def confirm(output: str, holder: str) -> None:
    """Raise LeaseLostError if this holder does not have the lease on the output."""
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
            if conditional_writes.write(uri, json_objects.encoded(content), tag=found and found[1]):
                break
        elif waited:
            raise InUseError(
                f"{output} is in use by {_holder_of(found)}; wait until that run ends, or give "
                "another --output"
            )
        seen = seen or found
        time.sleep(LOOKED_AT_EVERY_S)
    held_now = conditional_writes.read(uri)
    if held_now is None or held_now[0] != json_objects.encoded(content):
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
    """True if the lease was released, or if its holder was a process here that has ended."""
    content = _decoded(data)
    if content.get("released") is True:
        return True
    pid = content.get("pid")
    if content.get("system") != _system() or not isinstance(pid, int) or not _system():
        return False
    return _process_started(pid) != content.get("process_started")


def _system() -> str:
    """Identifies this boot and process namespace, in which a process id is unique; or ""."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" if it does not exist."""
    try:
        # The second field is a name in brackets, which may contain spaces and brackets.
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


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        return json_objects.decoded(data)
    except ValueError:  # a writer was killed half-way
        return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
