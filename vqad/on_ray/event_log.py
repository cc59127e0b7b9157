"""What the workers have to tell, kept by an actor until the driver asks for it."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vqad.on_ray.failures import Failure
from vqad.training.events import Event


class EventLog:
    """Events in the order of their coming, and how categories ended."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, Failure] = {}

    def add(self, event: Event) -> None:
        """Something happened."""
        self.events.append(event)

    def take(self) -> list[Event]:
        """The events since the last time."""
        events, self.events = self.events, []
        return events

    def finish(self, category: str, outcome: dict[str, Any]) -> None:
        """Note how a category ended."""
        self.outcomes[category] = outcome

    def fail(self, category: str, failure: Failure) -> None:
        """Note the last failure of a category's worker, which Ray may start again."""
        self.failures[category] = failure

    def failure(self, category: str) -> Failure | None:
        """The last failure of a worker of this category."""
        return self.failures.get(category)

    def outcome(self, category: str) -> dict[str, Any]:
        """How it ended."""
        return self.outcomes[category]


def here() -> NodeAffinitySchedulingStrategy:
    """On this node: what keeps the driver's books must not go with another."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def begin() -> Any:
    """The actor, beside the driver."""
    strategy: Any = here()
    return ray.remote(num_cpus=0, scheduling_strategy=strategy)(EventLog).remote()
