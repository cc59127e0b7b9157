"""The images of a batch side by side: OpenCV and numpy take one at a time, and release the GIL."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


def of_each(work: Callable[..., _Result], *rows: Iterable[object]) -> list[_Result]:
    """The results of ``work`` for each image, in order, in as many threads as torch has.

    ``rows`` have one argument of an image each. The first exception of an image is raised.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        return [work(*each) for each in zip(*rows, strict=True)]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(work, *rows))
