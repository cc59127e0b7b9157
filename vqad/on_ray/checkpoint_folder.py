"""What a training keeps of a category until its detector is saved: ``MODELS/.runs/RUN/NAME``.

The folder is Ray Train's, with its checkpoints and its registry of them. NAME follows from all that
shapes the weights, so that the same command finds it again and another never does.
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

_FORMAT = 1  # of a checkpoint; another number, another folder
_REGISTRY = "checkpoint_manager_snapshot.json"  # Ray Train's


@dataclass(frozen=True)
class CheckpointFolder:
    """The folder of one category."""

    run: str  # URI, MODELS/.runs/RUN
    name: str

    @classmethod
    def of(
        cls, models: str, run: str, options: TrainOptions, fingerprint: str
    ) -> "CheckpointFolder":
        """The folder for these options and this data."""
        shaping = [_FORMAT, fingerprint, asdict(options), asdict(PRESETS[options.preset])]
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
        folder = uris.absolute(models_layout.run(models, run))
        return cls(run=folder, name=models_layout.checkpoints_name(options.category, digest[:12]))

    @property
    def uri(self) -> str:
        """The whole address, for messages."""
        return f"{self.run}/{self.name}"

    def storage(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """File system and path of the run, as Ray Train wants them."""
        filesystem, path = pyarrow.fs.FileSystem.from_uri(self.run)
        return filesystem, path

    def remove(self) -> None:
        """Remove it, if it is there."""
        filesystem, run = self.storage()
        with suppress(FileNotFoundError):
            filesystem.delete_dir(f"{run}/{self.name}")

    def mend(self) -> bool:
        """Remove a registry that a kill left half written; returns whether there was one.

        Ray Train writes it in place and gives up on what it can't read: then the category would
        never train again. Without it, it begins anew.
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
