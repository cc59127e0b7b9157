"""How many categories train at once, and what each of their workers gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from vqad.on_ray import session
from vqad.storage.errors import VqadError


class NoPlaceError(VqadError, ValueError):
    """A private Ray can never place what was asked for, and nothing was started."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a category's workers get, and how many categories run at once."""

    num_concurrent: int
    num_workers: int  # of a category
    cpus: int  # of a worker, and its threads
    gpus: float  # of a worker

    @property
    def of_worker(self) -> dict[str, float]:
        """As Ray names them."""
        return {"CPU": float(self.cpus)} | ({"GPU": self.gpus} if self.gpus else {})

    def missing(self) -> str:
        """What a worker waits for on the nodes that there are; "" if nothing."""
        return waits_for("a worker", self.of_worker)

    def check(self) -> None:
        """Raise NoPlaceError if a private Ray has no place for the workers of one category."""
        check_private(
            f"{self.num_workers} worker{'s' if self.num_workers > 1 else ''} of a category",
            {name: amount * self.num_workers for name, amount in self.of_worker.items()},
            "give a smaller --workers-per-category or --gpus-per-category",
        )


def waits_for(what: str, wanted: Mapping[str, float]) -> str:
    """What a worker waits for where no node can take it now; "" if one can."""
    if any(_lacks(node, wanted) == [] for node in _nodes()):
        return ""
    return f"{what} needs {_amounts(wanted)}, which no node has now; waiting for one"


def check_private(what: str, wanted: Mapping[str, float], remedy: str) -> None:
    """Raise NoPlaceError if a private Ray can never have so much. A cluster may grow."""
    if not session.is_private():
        return
    found = {"CPU": float(session.num_cpus()), "GPU": session.num_gpus()}
    if _lacks(found, wanted):
        raise NoPlaceError(
            f"{what} would need {_amounts(wanted)}, and this machine has {_amounts(found)}; "
            f"{remedy}"
        )


def _lacks(found: Mapping[str, float], wanted: Mapping[str, float]) -> list[str]:
    return [name for name, amount in wanted.items() if found.get(name, 0) < amount]


def _amounts(amounts: Mapping[str, float]) -> str:
    return " and ".join(
        f"{amount:g} {name}{'' if amount == 1 else 's'}" for name, amount in amounts.items()
    )


def share(
    num_categories: int,
    *,
    num_workers: int = 1,
    gpus_per_category: float | None = None,
    max_concurrent: int | None = None,
) -> Resources:
    """Share out what Ray has: every category its GPUs, and all categories at once all CPUs.

    By default a worker gets a whole GPU where there are any. CPUs are rounded down, to no more
    than a node has, so that every worker finds a place.
    """
    gpus = gpus_per_category
    if gpus is None:
        gpus = float(num_workers) if session.num_gpus() >= 1 else 0.0
    fit = int(session.num_gpus() / gpus) if gpus else session.num_cpus() // num_workers
    num_concurrent = max(1, min(fit, num_categories, max_concurrent or fit))
    cpus = session.num_cpus() // (num_concurrent * num_workers)
    of_node = [int(node.get("CPU", 0)) for node in _nodes() if not gpus or node.get("GPU", 0)]
    return Resources(
        num_concurrent=num_concurrent,
        num_workers=num_workers,
        cpus=max(1, min(cpus, max(of_node, default=1))),
        gpus=gpus / num_workers,
    )


def _nodes() -> list[dict[str, Any]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
