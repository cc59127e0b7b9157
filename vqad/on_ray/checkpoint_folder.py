"""The folder of a category's checkpoints, until its detector is saved: ``MODELS/.runs/RUN/NAME``.

Ray Train writes its checkpoints there, and a registry of them. NAME depends on everything that
shapes the weights, so that the same command finds the folder again and no other command does.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.fs

from vqad.storage import models_layout, uris
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS

_FORMAT = 1  # of a checkpoint; raising it abandons older checkpoints
_REGISTRY = "checkpoint_manager_snapshot.json"  # written by Ray Train


@dataclass(frozen=True)
class CheckpointFolder:
    """The folder of one category's checkpoints."""

    run: str  # URI, MODELS/.runs/RUN
    name: str

    @classmethod
    def of(
        cls, models: str, run: str, options: TrainOptions, fingerprint: str
    ) -> "CheckpointFolder":
        """The folder that belongs to these options and this data."""
        shaping = [_FORMAT, fingerprint, options.shaping(), asdict(PRESETS[options.preset])]
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
        folder = uris.absolute(models_layout.run(models, run))
        return cls(run=folder, name=models_layout.checkpoints_name(options.category, digest[:12]))

    @property
    def uri(self) -> str:
        """The folder's URI, for messages."""
        return f"{self.run}/{self.name}"

    def storage(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """File system and path of the run, in the form that Ray Train takes."""
        filesystem, path = pyarrow.fs.FileSystem.from_uri(self.run)
        return filesystem, path

    def remove(self) -> None:
        """Remove the folder if it exists."""
        filesystem, run = self.storage()
        with suppress(FileNotFoundError):
            filesystem.delete_dir(f"{run}/{self.name}")

    def mend(self) -> bool:
        """Remove a registry that was left incomplete by a kill; returns True if there was one.

        Ray Train writes the registry in place, and fails if it can't read it: the category could
        never be trained again. Without a registry, training starts from the beginning.
        """
        filesystem, run = self.storage()
        registry = f"{run}/{self.name}/{_REGISTRY}"
        try:
            with filesystem.open_input_stream(registry) as file:
                checkpoints = _checkpoints(file.read())
        except FileNotFoundError:
            return False
        paths = [f"{run}/{self.name}/{each}" for each in checkpoints or ()]
        found = filesystem.get_file_info(paths)
        if checkpoints is not None and all(_is_there(each) for each in found):
            return False
        filesystem.delete_file(registry)
        return True


def _is_there(info: pyarrow.fs.FileInfo) -> bool:
    return bool(info.type != pyarrow.fs.FileType.NotFound)


def _checkpoints(registry: bytes) -> Sequence[str] | None:
    try:
        found: Any = json.loads(registry)
        return [each["checkpoint_dir_name"] for each in found["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        return None
