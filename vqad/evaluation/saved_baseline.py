"""A fitted baseline on storage: one file of weights, and baseline.json with settings and hash."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from torch import nn

from vqad.detection.weights import (
    DetectorError,
    load_weights,
    read_json,
    record_of,
    weights_of,
)
from vqad.storage import files, json_objects, uris

FORMAT_VERSION: Final = 1
SettingsT = TypeVar("SettingsT")
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def record_uri(folder: str) -> str:
    """The file that is written last: a baseline that has it is complete."""
    return uris.join(folder, "baseline.json")


def save(folder: str, settings: Any, network: nn.Module, *, weights_name: str) -> None:
    """Write the weights and then the record; ``settings`` is a dataclass."""
    weights = weights_of(network)
    files.write_bytes(uris.join(folder, weights_name), weights)
    record = {
        "format_version": FORMAT_VERSION,
        "settings": asdict(settings),
        "files": {weights_name: record_of(weights)},
    }
    files.write_bytes(record_uri(folder), json_objects.encoded(record))


def load(
    folder: str,
    kind: type[SettingsT],
    network_of: Callable[[SettingsT], NetworkT],
    *,
    weights_name: str,
) -> tuple[SettingsT, NetworkT]:
    """Settings and network of a saved baseline. Raises DetectorError."""
    uri = record_uri(folder)
    record = read_json(uri)
    if record.get("format_version") != FORMAT_VERSION:
        raise DetectorError(f"{uri} has another format; delete {folder} to have it fitted again")
    try:
        settings = TypeAdapter(kind).validate_python(record.get("settings"))
    except ValidationError as error:
        raise DetectorError(f"{uri}: {error.errors()[0]['msg']}") from error
    network, listed = network_of(settings), record.get("files")
    recorded = listed.get(weights_name) if isinstance(listed, dict) else None
    load_weights(network, uris.join(folder, weights_name), recorded)
    return settings, network
