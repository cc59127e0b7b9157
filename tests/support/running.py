"""A command in a process of its own, watched while it runs and ended by a signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import Ended, clean_environment
from tests.support.processes import descendants, runs


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command that runs, and the files of its streams."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def wait_for(self, happened: Callable[[], bool], within_s: float = 300) -> None:
        """Wait until something happened, which must be before the command ends."""
        give_up_s = time.monotonic() + within_s
        while not happened():
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < give_up_s, self.err.read_text()
            time.sleep(0.05)

    def stop(self, number: signal.Signals) -> tuple[Ended, float, list[int]]:
        """Send a signal to the command and all that it started, as a terminal does.

        Returns how it ended, after how many seconds, and which of its processes still run.
        """
        below = descendants(self.process.pid)
        start_s = time.monotonic()
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        code = self.process.wait(60)
        seconds = time.monotonic() - start_s
        while (left := [pid for pid in below if runs(pid)]) and time.monotonic() - start_s < 10:
            time.sleep(0.1)
        return Ended(code=code, out=self.out.read_text(), err=self.err.read_text()), seconds, left


@contextmanager
def running(
    *arguments: object, home: Path, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """Start `python -m jobs ARGUMENTS` in a process group of its own."""
    out, err = home / "stdout", home / "stderr"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", *map(str, arguments)],
            env=clean_environment(home) | (environment or {}),
            stdout=out_file,
            stderr=err_file,
            start_new_session=True,
        )
        try:
            yield Running(process=process, out=out, err=err)
        finally:
            process.kill()
            process.wait()


def listening(pids: list[int]) -> dict[str, int]:
    """Addresses on which some processes listen for TCP, as the kernel writes them, with the id."""
    inodes: dict[str, int] = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes[os.readlink(path).removeprefix("socket:[").rstrip("]")] = pid  # noqa: PTH115
            except OSError:
                continue
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found[fields[1].partition(":")[0]] = inodes[fields[9]]
    return found
