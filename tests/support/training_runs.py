"""`vqad train` in a process of its own, with the preset `tiny` cut down to what tests can wait for.

`python -m tests.support.training_runs ARGUMENTS`; the tests use `Night` to start it, to read along,
and to kill what runs below it.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.commands import Ended, clean_environment
from tests.support.processes import descendants, runs, title

INTERVAL_STEPS = 5
NUM_STEPS = int(os.environ.get("NIGHT_STEPS", "60"))
SHOWN = re.compile(r"(\w+): (vqvae|prior) step (\d+) of \d+, ")


def shorten() -> None:
    """Cut the preset down, in the driver and in every worker."""
    from vqad.training.presets import PRESETS

    tiny = PRESETS["tiny"]
    cut = {"num_steps": NUM_STEPS, "interval_steps": INTERVAL_STEPS, "batch_size": 16}
    PRESETS["tiny"] = replace(
        tiny,
        fit_vqvae=replace(tiny.fit_vqvae, **cut, num_warmup_steps=10),
        fit_prior=replace(tiny.fit_prior, **cut),
        form="joined",  # the demo trains the form full
    )


def main() -> int:
    """Run the command on a Ray of its own, or on that of RAY_ADDRESS."""
    from jobs.__main__ import main as vqad

    shorten()
    _join_ray()
    return vqad(["train", "--preset", "tiny", *sys.argv[1:]])


def _join_ray(attempts: int = 3) -> None:
    import ray

    cpus = int(os.environ.get("NIGHT_CPUS", "2"))
    own = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False, "num_cpus": cpus}
    hook = {"worker_process_setup_hook": shorten, "env_vars": {"NIGHT_STEPS": str(NUM_STEPS)}}
    address = os.environ.get("RAY_ADDRESS", "local")
    for left in reversed(range(attempts)):
        try:
            ray.init(address=address, runtime_env=hook, log_to_driver=False, **own)
            return
        except Exception:  # a Ray that was not up within 30 s, on a machine that is busy
            if not left:
                raise
            ray.shutdown()


@dataclass
class Night:
    """A training that runs, and the lines that it has said."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)  # when each line was read

    def read_until(self, *patterns: str) -> str:
        """Read along until each pattern has matched a line, in any order; returns the last."""
        missing = set(patterns)
        for line in self._read():
            missing = {each for each in missing if not re.search(each, line)}
            if not missing:
                return line
        raise AssertionError(f"no lines {missing} in:\n" + "\n".join(self.lines[-40:]))

    def end(self) -> Ended:
        """Read all the rest."""
        assert self.process.stdout
        self.read_all()
        out = self.process.stdout.read()
        return Ended(code=self.process.wait(), out=out, err="\n".join(self.lines))

    def read_all(self) -> None:
        """Read until nobody writes any more."""
        for _ in self._read():
            pass

    def _read(self) -> Iterator[str]:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            self.times_s.append(time.monotonic())
            yield self.lines[-1]

    def cut_power(self) -> None:
        """Kill the driver and all that it started, Ray included."""
        below = descendants(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.read_all()

    def kill(self) -> None:
        """Kill the driver alone, and wait for what it started to notice: Ray takes a minute."""
        below = descendants(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.read_all()
        give_up_s = time.monotonic() + 120
        while any(map(runs, below)):
            assert time.monotonic() < give_up_s, "Ray outlives its driver"
            time.sleep(0.2)

    def kill_worker(self) -> int:
        """Kill one worker of Ray Train; returns its process id."""
        workers = [pid for pid in descendants(self.process.pid) if "RayTrainWorker" in title(pid)]
        assert workers, "no worker runs"
        os.kill(workers[0], signal.SIGKILL)
        return workers[0]

    def steps(self) -> list[tuple[str, int]]:
        """Stage and step of every record shown so far."""
        found = (SHOWN.search(line) for line in self.lines)
        return [(each[2], int(each[3])) for each in found if each]


@contextmanager
def night(*arguments: object, home: Path, **environment: str) -> Iterator[Night]:
    """Start it; what still runs at the end is killed."""
    # Workers no less important than what else runs: a test waits for them.
    fast = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_worker_niceness": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.training_runs", *map(str, arguments)],
        env=clean_environment(home) | fast | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        running = Night(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                running.cut_power()


if __name__ == "__main__":
    sys.exit(main())
