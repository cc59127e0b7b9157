"""The record of the latest run, as far as it is there and is what it should be."""

from dataclasses import dataclass
from typing import Any, Final

from vqad.storage import files, json_objects, output_layout
from vqad.storage.errors import FetchError

_LARGEST_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is recorded of the latest run; every entry may be missing."""

    values: dict[str, Any]

    @property
    def run(self) -> str:
        """The name of the run."""
        return text(self.values.get("run"))

    def asked(self, name: str) -> str:
        """An option of the run, "" if it was not given."""
        asked = self.values.get("asked")
        return text(asked.get(name)) if isinstance(asked, dict) else ""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the programs."""
        return texts(self.values.get("versions"))

    @property
    def model_versions(self) -> dict[str, str]:
        """Versions of the detectors by category."""
        return texts(self.values.get("model_versions"))


def text(value: Any) -> str:
    """A value of a record that should be a text; "" if it is none."""
    return value if isinstance(value, str) else ""


def texts(value: Any) -> dict[str, str]:
    """A value of a record that should be an object, with texts; an empty one if it is none."""
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def read_record(output: str) -> RunRecord:
    """The record of the latest run; an empty one if there is none yet."""
    try:
        uri = output_layout.latest_run_record(output)
        found = json_objects.decoded(files.read_bytes(uri, max_bytes=_LARGEST_BYTES))
    except (FetchError, ValueError):
        found = {}
    return RunRecord(values=found)
