"""How many categories train at once, and what each of their workers gets."""

from dataclasses import dataclass
from typing import Any

import ray

from vqad.on_ray import session


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
        """What stands in the way of a single worker on the nodes that there are; "" if nothing."""
        if any(self._fits(node) for node in _nodes()):
            return ""
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"a worker wants {self.cpus} CPUs{gpus}, which no node has now; waiting for one"

    def _fits(self, node: dict[str, float]) -> bool:
        return all(node.get(name, 0) >= amount for name, amount in self.of_worker.items())


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
