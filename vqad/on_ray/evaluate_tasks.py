"""Applying other methods than the detector's own to images, as Ray tasks over chunks of images.

A task gets a method and the URIs of images, and returns scores and maps for each name of the
method separately, so that the driver needs the maps of only one name in memory. No task sees a
label.
"""

from collections.abc import Sequence
from typing import Any, Final

import ray

from vqad.evaluation import methods
from vqad.evaluation.methods import Method, WitnessMethod, apply
from vqad.on_ray import session

_IMAGES_PER_TASK: Final = 32


def num_gpus() -> float:
    """GPUs that a task asks for: one if there are any."""
    return 1.0 if session.num_gpus() >= 1 else 0.0


def witness_method(models: str, category: str, version: str, data: str) -> WitnessMethod:
    """Fit the variants of a detector of the form full in a task; raises as it does."""
    task: Any = ray.remote(num_cpus=1, num_gpus=num_gpus())(methods.witness_method)
    found: WitnessMethod = ray.get(task.remote(models, category, version, data))
    return found


def submit(method: Method, uris: Sequence[str], *, keep_maps: bool) -> dict[str, list[Any]]:
    """Submit the tasks; returns references to (scores, maps) by name, one per chunk of images."""
    num = len(method.names)
    task: Any = ray.remote(num_cpus=1, num_gpus=num_gpus(), num_returns=num)(apply)
    found: dict[str, list[Any]] = {name: [] for name in method.names}
    for at in range(0, len(uris), _IMAGES_PER_TASK):
        refs = task.remote(method, list(uris[at : at + _IMAGES_PER_TASK]), keep_maps)
        for name, ref in zip(method.names, [refs] if num == 1 else refs, strict=True):
            found[name].append(ref)
    return found


def scores_of(refs: list[Any]) -> list[float]:
    """Wait for the scores of all chunks of one name."""
    return [score for scores, _ in ray.get(refs) for score in scores.tolist()]
