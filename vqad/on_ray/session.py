"""The Ray that a command runs on: the cluster it was submitted to, or a private local one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Ray Train and Ray Data read these while they are imported.
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray


@contextmanager
def connected(*, num_cpus: int | None = None) -> Iterator[None]:
    """Join the Ray of ``RAY_ADDRESS`` where it is set, else start a local one and end it after.

    Never whatever cluster happens to run on this host: that may be somebody else's.
    """
    if ray.is_initialized():
        # A command within a command, as in the demo: one Ray serves both.
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    options = {} if address else {"num_cpus": num_cpus, "include_dashboard": False}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        **options,
    )
    try:
        yield
    finally:
        ray.shutdown()


def num_cpus() -> int:
    """CPUs that Ray has to give."""
    return int(ray.cluster_resources().get("CPU", 1))


def num_gpus() -> float:
    """GPUs that Ray has to give."""
    return float(ray.cluster_resources().get("GPU", 0))
