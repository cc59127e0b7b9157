"""The options of one inspection, each declared once: `vqad inspect` derives its flags from them.

A field with ``help`` in its metadata is a flag of the command; ``metavar`` names the kind of value
where the type does not say it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from vqad.images.name_patterns import check_pattern
from vqad.images.routing import Routing

LATEST: Final = "latest"  # of `InspectJob.shadow`


@dataclass(frozen=True, kw_only=True)
class InspectJob:
    """The options of one `vqad inspect`."""

    archive: str = field(
        metadata={
            "help": "folder of images and shards, or a single image, shard or manifest",
            "metavar": "URI",
        }
    )
    models: str = field(metadata={"help": "folder with the detectors", "metavar": "URI"})
    output: str = field(
        metadata={
            "help": "folder that verdicts, maps and run.json are written to",
            "metavar": "URI",
        }
    )
    routing: Routing = field(default_factory=Routing)
    include: str | None = field(
        default=None,
        metadata={"help": "glob on the path below the archive; default: all images"},
    )
    modified_since: datetime | None = field(
        default=None,
        metadata={
            "help": "only images modified at or after this time (ISO 8601, with a time zone); "
            "default: all images"
        },
    )
    limit: int | None = field(
        default=None,
        metadata={"help": "inspect at most so many of the images still to do; default: all"},
    )
    redo: Literal["changed", "all"] | None = field(
        default=None,
        metadata={
            "help": "inspect images again that have a verdict. changed: if the image or the "
            "current detector changed, or if the last fetch failed; default: none"
        },
    )
    maps: Literal["all", "defect", "none"] = field(
        default="all", metadata={"help": "images whose anomaly maps are written"}
    )
    shadow: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "second detectors that judge the same images beside those in force, into "
            "OUTPUT/shadow; latest: the newest saved version of each category, where it is not in "
            "force; default: none",
            "metavar": "SHADOW",
        },
    )
    num_actors: int | None = field(
        default=None,
        metadata={
            "help": "detectors that inspect at the same time; default: one per GPU, else one per "
            "CPU as far as the memory allows"
        },
    )
    gpus_per_actor: float | None = field(
        default=None,
        metadata={
            "help": "GPUs per detector, may be a fraction; default: 1 where there are any, else 0"
        },
    )
    batch_size: int = field(
        default=16, metadata={"help": "images in one pass through the networks"}
    )
    part_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression that is searched in the path below the archive; images "
            "with the same first group are pictures of one part, which get a row in "
            "OUTPUT/parts; default: none"
        },
    )

    def __post_init__(self) -> None:
        """Refuse sizes that could never run."""
        for name in ("limit", "num_actors", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.part_pattern is not None:
            check_pattern(
                "part_pattern", self.part_pattern, names="the part", example="(part_[0-9]+)_"
            )
        if self.maps not in ("all", "defect", "none"):
            raise ValueError(f"maps must be all, defect or none, got {self.maps}")
        if self.redo not in (None, "changed", "all"):
            raise ValueError(f"redo must be changed or all, got {self.redo}")
        if self.shadow != (LATEST,):
            shadow_pairs(self.shadow)
        if self.gpus_per_actor is not None and self.gpus_per_actor < 0:
            raise ValueError(f"gpus_per_actor must not be negative, got {self.gpus_per_actor}")


def shadow_pairs(asked: Sequence[str]) -> dict[str, str]:
    """The version that ``--shadow CATEGORY=VERSION,...`` asks for, by category."""
    found: dict[str, str] = {}
    for each in asked:
        category, _, version = each.rpartition("=")
        if not category or not version:
            raise ValueError(f"shadow must be CATEGORY=VERSION or {LATEST}, got {each}")
        if found.setdefault(category, version) != version:
            raise ValueError(
                f"shadow must have one version per category, got {found[category]} and {version} "
                f"for {category}"
            )
    return found
