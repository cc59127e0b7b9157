"""The Ray that a command runs on: the cluster it was submitted to, or a private local one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Ray reads these while it is imported or started.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Workers wait for a place as long as it takes, on a cluster that others use as well: a week.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(7 * 24 * 3600))
# Ray's core warns of every pool of actors that its arguments are kept in the object store, at the
# level of errors. What matters to a person comes back as an exception.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray


@contextmanager
def connected() -> Iterator[None]:
    """Join the Ray of ``RAY_ADDRESS`` where it is set, else start a local one and end it after.

    Never whatever cluster happens to run on this host: that may be somebody else's.
    """
    if ray.is_initialized():
        # A command within a command, as in the demo: one Ray serves both.
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    _quieten()
    try:
        yield
    finally:
        ray.shutdown()


def _quieten() -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
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
    lines = [line for line in first.splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
