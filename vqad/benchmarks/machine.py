"""Measuring this machine: time, memory, and the rate of matrix products."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

Say = Callable[[str], None]


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to a name."""
        _settle()
        start_s = time.perf_counter()
        yield
        _settle()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start_s


def matrix_product_flops(
    size: int = 2048, *, seconds: float = 1.0, dtype: torch.dtype = torch.float32
) -> float:
    """Floating-point operations per second of matrix products here, the best of many."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = torch.rand(2, size, size, device=device).to(dtype)
    best_s, give_up_s = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < give_up_s:
        watch = Stopwatch()
        with watch.timed("product"):
            left @ right
        best_s = min(best_s, watch.seconds["product"])
    return 2 * size**3 / best_s


def peak_bytes() -> int:
    """The peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
