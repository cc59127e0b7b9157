"""Ways of looking at images beside the detector's own, as Ray tasks over chunks of them.

A task gets the URIs of images and a way of looking, and gives scores and maps, of each name apart:
the driver takes the maps of one at a time. No label comes near.
"""

from collections.abc import Sequence
from typing import Any

import ray

from vqad.evaluation.methods import Method, look_at
from vqad.on_ray import session

_IMAGES_A_TASK = 32


def num_gpus() -> float:
    """What a task asks for: a GPU where there are any."""
    return 1.0 if session.num_gpus() >= 1 else 0.0


def looked(way: Method, uris: Sequence[str], *, keep_maps: bool) -> dict[str, list[Any]]:
    """References to (scores, maps) by name, a list over chunks of the images."""
    num = len(way.names)
    task: Any = ray.remote(num_cpus=1, num_gpus=num_gpus(), num_returns=num)(look_at)
    found: dict[str, list[Any]] = {name: [] for name in way.names}
    for at in range(0, len(uris), _IMAGES_A_TASK):
        refs = task.remote(way, list(uris[at : at + _IMAGES_A_TASK]), keep_maps)
        for name, ref in zip(way.names, [refs] if num == 1 else refs, strict=True):
            found[name].append(ref)
    return found


def scores_of(refs: list[Any]) -> list[float]:
    """Scores of all chunks of one name."""
    return [score for scores, _ in ray.get(refs) for score in scores.tolist()]
