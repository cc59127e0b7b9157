"""The options of one inspection."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vqad.images.routing import Routing


@dataclass(frozen=True, kw_only=True)
class InspectJob:
    """All of one `vqad inspect`."""

    archive: str  # URI
    models: str  # URI
    output: str  # URI
    routing: Routing = field(default_factory=Routing)
    include: str | None = None  # glob on the path below the archive
    modified_since: datetime | None = None
    limit: int | None = None  # images of this run, of those still to be done
    redo: Literal["changed", "all"] | None = None  # of the images that have their verdict
    maps: Literal["all", "defect", "none"] = "all"
    num_actors: int | None = None  # None: one a GPU, else one a CPU where memory allows
    gpus_per_actor: float | None = None  # None: one where the cluster has any, else none
    batch_size: int = 16  # images in one pass of the networks

    def __post_init__(self) -> None:
        """Refuse sizes that could never run."""
        for name in ("limit", "num_actors", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.maps not in ("all", "defect", "none"):
            raise ValueError(f"maps must be all, defect or none, got {self.maps}")
        if self.redo not in (None, "changed", "all"):
            raise ValueError(f"redo must be changed or all, got {self.redo}")
        if self.gpus_per_actor is not None and self.gpus_per_actor < 0:
            raise ValueError(f"gpus_per_actor must not be negative, got {self.gpus_per_actor}")
