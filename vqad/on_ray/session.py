"""The Ray that a command runs on: the cluster of RAY_ADDRESS, or a private one on this machine."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these variables while it is imported or started.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# On a cluster that others use as well, workers may wait long for a free CPU or GPU: a week.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(7 * 24 * 3600))
# Ray's core logs, at the level of errors, that the arguments of a pool of actors are kept in the
# object store. What matters to a person comes back as an exception.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
# A local Ray ends workers that were idle for a second while there is more than one worker per CPU,
# counting its own and our actors, and starts new ones for the next task. Each start costs seconds
# of imports, and the peak memory grows with the number of workers that overlap. So let all stay.
os.environ.setdefault("RAY_num_workers_soft_limit", str(8 + 4 * (os.cpu_count() or 1)))

import ray

from vqad.on_ray import private_ray
from vqad.on_ray.private_ray import NoRayError

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

# A private Ray gives up its own start after 30 s, which may be too early on a busy machine.
ATTEMPTS = 3

_private = False


@contextmanager
def connected() -> Iterator[None]:
    """Join the Ray of ``RAY_ADDRESS`` if it is set, else start a private one and end it afterwards.

    It never joins a cluster only because it runs on this host: that may be somebody else's.
    Raises NoRayError.
    """
    if ray.is_initialized():
        # A command inside a command, as in the demo: they share one Ray.
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    with _joined(address) if address else _started():
        _quieten()
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        try:
            _init(address=address)
        except Exception as error:  # Ray raises many classes here
            raise NoRayError(
                f"no Ray answers at {address}: {reason(error)}; check RAY_ADDRESS"
            ) from None
        yield
    finally:
        ray.shutdown()


@contextmanager
def _started() -> Iterator[None]:
    global _private
    with private_ray.prepared() as folder:
        try:
            _start(folder)
            _private = True
            yield
        finally:
            _private = False
            ray.shutdown()


def _start(folder: Path) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            _init(address="local", include_dashboard=False, _temp_dir=str(folder))
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            if not left:
                raise NoRayError(
                    f"Ray could not be started: {reason(error)}; try again when the machine is "
                    "less busy"
                ) from None


def _init(**options: Any) -> None:
    with _handlers_kept(), _nothing_on_standard_error():
        ray.init(**options, **_QUIET)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM by one that ends the process: put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    stopped = False
    try:
        yield
    except SystemExit:  # of Ray's handler: the signal came while Ray started
        stopped = True
    finally:
        signal.signal(signal.SIGTERM, before)
    if stopped:
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def _nothing_on_standard_error() -> Iterator[None]:
    """Ray's core writes lines about itself while it starts. Errors come back as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _quieten() -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Ray warns if there are fewer inputs than actors; but one shard is work for all of them.
    warnings.filterwarnings("ignore", "The (min|max)imum number of concurrent", UserWarning)
    for name in ("ray.data", "ray.train", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def is_private() -> bool:
    """True for a Ray that this process started, which never gets more than this machine has."""
    return _private


def num_cpus() -> int:
    """Number of CPUs of all nodes."""
    return int(ray.cluster_resources().get("CPU", 1))


def most_cpus() -> int:
    """Number of CPUs of the node that has most of them."""
    nodes = (node for node in ray.nodes() if node["Alive"])
    return max((int(node["Resources"].get("CPU", 0)) for node in nodes), default=0)


def num_gpus() -> float:
    """Number of GPUs of all nodes."""
    return float(ray.cluster_resources().get("GPU", 0))


def memory_bytes() -> int:
    """Memory of all nodes that is meant for workers."""
    return int(ray.cluster_resources().get("memory", 0))


def reason(error: BaseException) -> str:
    """One line on what went wrong: the end of the first of the tracebacks that Ray concatenates."""
    first = str(error).partition("\nThe above exception was the direct cause")[0]
    # An indented line continues the one before it, as in Ray's lists of possible causes.
    lines = [line for line in first.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].strip() if lines else type(error).__name__
