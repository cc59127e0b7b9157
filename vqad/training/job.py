"""The options of one `vqad train`, beside those of each category (`options`).

Each is declared once: a field with ``help`` in its metadata is a flag of the command.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vqad.training.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """The options of one `vqad train`."""

    data: str = field(
        metadata={
            "help": "folder with the training images: DATA/CATEGORY/train/good/*, "
            "DATA/CATEGORY/good/*, or DATA/CATEGORY/* with good images only",
            "metavar": "URI",
        }
    )
    models: str = field(
        metadata={"help": "folder that the detectors are written to", "metavar": "URI"}
    )
    options: Sequence[TrainOptions]  # one per category
    run: str = field(
        default="",
        metadata={
            "help": "name of the run; default: a hash of the data's URI, the categories and all "
            "options that shape a detector"
        },
    )
    redo: bool = field(
        default=False, metadata={"help": "train the categories again that this run has finished"}
    )
    promote: bool = field(
        default=True,
        metadata={
            "help": "save the detectors as versions that are not in force: vqad models promote "
            "puts one in force (default: put them in force)"
        },
    )
    reviews: str = field(
        default="",
        metadata={
            "help": "output of an inspection with reviews: its confirmed false alarms are learned "
            "from as further good images of their category; default: none",
            "metavar": "URI",
        },
    )
    only: Literal["calibrate"] | None = field(
        default=None,
        metadata={
            "help": "calibrate: set eta and threshold of the current detectors again, on the "
            "images that they held out, without fitting; default: fit and calibrate"
        },
    )
    max_concurrent: int | None = field(
        default=None,
        metadata={
            "help": "categories that are trained at the same time; default: as many as there are "
            "GPUs, or CPUs if there is no GPU"
        },
    )
    workers_per_category: int = field(
        default=1, metadata={"help": "workers that share each batch of a category"}
    )
    gpus_per_category: float | None = field(
        default=None,
        metadata={
            "help": "GPUs per category, may be a fraction; default: one per worker if there "
            "are any, else none"
        },
    )
    checkpoint_seconds: float = field(
        default=60.0,  # a guess: writing a checkpoint takes about one second
        metadata={"help": "seconds between two checkpoints; a rerun continues from the last one"},
    )
    cache_bytes: int = field(
        default=4 * 2**30,  # a guess: 20,000 images of 256 x 256 pixels
        metadata={
            "help": "bytes of memory for the decoded images of a category; what is larger is read "
            "from a file in the node's temporary folder"
        },
    )

    def __post_init__(self) -> None:
        """Refuse sizes with which no worker could start."""
        for name in ("max_concurrent", "workers_per_category"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("gpus_per_category", "checkpoint_seconds", "cache_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if (self.gpus_per_category or 0) > self.workers_per_category:
            raise ValueError(
                "gpus_per_category must be at most one per worker, got "
                f"{self.gpus_per_category:g} for {self.workers_per_category}; "
                "raise --workers-per-category"
            )
        if self.reviews and self.only:
            raise ValueError("reviews are for a fit: leave out --only calibrate, or --reviews")
        self._check_batches()

    def _check_batches(self) -> None:
        """Every worker needs at least one image of each batch."""
        from vqad.training.presets import PRESETS

        for each in self.options:
            preset = PRESETS[each.preset]
            most = min(preset.fit_vqvae.batch_size, preset.fit_prior.batch_size)
            if self.workers_per_category > most:
                raise ValueError(
                    f"workers_per_category must be at most {most}: every worker needs at least "
                    f"one image per batch; got {self.workers_per_category}"
                )

    @property
    def run_name(self) -> str:
        """Name of the run: the given one, or a hash of data, categories, preset and settings."""
        shaping: list[Any] = [self.data, [each.shaping() for each in self.options]]
        shaping += [self.reviews] if self.reviews else []  # older runs keep their names
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
        return self.run or f"run-{digest[:12]}"
