"""The Ray that a command runs on: the cluster it was submitted to, or a private local one."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vqad.storage.errors import VqadError

# Ray reads these while it is imported or started.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Workers wait for a place as long as it takes, on a cluster that others use as well: a week.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(7 * 24 * 3600))
# Ray's core warns of every pool of actors that its arguments are kept in the object store, at the
# level of errors. What matters to a person comes back as an exception.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
# A local Ray ends workers that were idle for a second while more than one a CPU are there, its own
# and our actors included, and starts others for the next task: seconds of imports each, and memory
# that grows with how many happen to be alive at once. So all that work together may stay.
os.environ.setdefault("RAY_num_workers_soft_limit", str(8 + 4 * (os.cpu_count() or 1)))

import ray

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

# A private Ray gives up on itself after 30 s, which on a busy machine may be too early.
ATTEMPTS = 3


class NoRayError(VqadError, ValueError):
    """There is no Ray to work on, and nothing was begun."""


@contextmanager
def connected() -> Iterator[None]:
    """Join the Ray of ``RAY_ADDRESS`` where it is set, else start a local one and end it after.

    Never whatever cluster happens to run on this host: that may be somebody else's. Raises
    NoRayError.
    """
    if ray.is_initialized():
        # A command within a command, as in the demo: one Ray serves both.
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    _join(address) if address else _start()
    _quieten()
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        ray.init(address=address, **_QUIET)
    except Exception as error:  # by the way in which it fails, of many classes
        raise NoRayError(
            f"no Ray answers at {address}: {reason(error)}; check RAY_ADDRESS"
        ) from None


def _start() -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            ray.init(address="local", include_dashboard=False, **_QUIET)
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            if not left:
                raise NoRayError(
                    f"Ray could not be started: {reason(error)}; try again when the machine is "
                    "less busy"
                ) from None


def _quieten() -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Of an archive with fewer units than actors; a shard is one input, and still work for all.
    warnings.filterwarnings("ignore", "The (min|max)imum number of concurrent", UserWarning)
    for name in ("ray.data", "ray.train", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def num_cpus() -> int:
    """CPUs that Ray has to give."""
    return int(ray.cluster_resources().get("CPU", 1))


def num_gpus() -> float:
    """GPUs that Ray has to give."""
    return float(ray.cluster_resources().get("GPU", 0))


def memory_bytes() -> int:
    """Memory that Ray has to give to its workers."""
    return int(ray.cluster_resources().get("memory", 0))


def reason(error: BaseException) -> str:
    """What went wrong, in one line: the end of the first of the tracebacks that Ray strings up."""
    first = str(error).partition("\nThe above exception was the direct cause")[0]
    # What is indented goes on from a line before it, as in Ray's lists of what may be the cause.
    lines = [line for line in first.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].strip() if lines else type(error).__name__
