"""Read and write the files of a detector: weights as safetensors, records as JSON.

A file on storage may be broken or come from anywhere. So its size is bounded before it is read,
weights must match the hash in the detector's record, and neither format can contain code.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import safetensors.torch
from torch import nn

from vqad.model.finite import NotFiniteError, check_finite
from vqad.storage import errors, files, json_objects
from vqad.storage.errors import VqadError

LARGEST_JSON_BYTES: Final = 16 * 2**20
LARGEST_WEIGHTS_BYTES: Final = 2**30


class DetectorError(VqadError, ValueError):
    """A detector that is missing, broken, or does not match its own record."""


@contextmanager
def named_in_errors(category: str, version: str) -> Iterator[None]:
    """Turn an error about numbers into one that says which detector has to be replaced."""
    try:
        yield
    except NotFiniteError as error:
        raise DetectorError(
            f"the {category} detector, version {version or 'not saved'}, cannot judge: {error}; "
            "restore an older version, or train again"
        ) from error


def record_of(data: bytes) -> dict[str, Any]:
    """Hash and size of a file, by which ``load_weights`` recognises it."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def weights_of(network: nn.Module) -> bytes:
    """A network's weights in the format safetensors."""
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(state)


def read_recorded(uri: str, recorded: Any, *, max_bytes: int) -> bytes:
    """The bytes of a detector's file; raises DetectorError unless they match what is recorded."""
    if not isinstance(recorded, dict):
        raise DetectorError(f"{uri} is not in the detector's record; save the detector again")
    try:
        data = files.read_bytes(uri, max_bytes=max_bytes)
    except errors.FetchError as error:
        raise DetectorError(f"{uri}: {error}") from error
    if record_of(data) != {name: recorded.get(name) for name in ("sha256", "bytes")}:
        raise DetectorError(
            f"{uri} does not match its recorded hash and size; restore it, or train again"
        )
    return data


def load_weights(network: nn.Module, uri: str, recorded: Any) -> None:
    """Load weights into a network; raises DetectorError unless they match what is recorded.

    ``recorded`` comes from detector.json and should be ``{"sha256": ..., "bytes": ...}``.
    """
    data = read_recorded(uri, recorded, max_bytes=LARGEST_WEIGHTS_BYTES)
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DetectorError(f"{uri} does not fit the recorded network: {reason}") from error
    for name, tensor in network.state_dict().items():
        try:
            check_finite(f"the weights {name}", tensor)
        except NotFiniteError as error:
            raise DetectorError(f"{uri}: {error}; restore it, or train again") from error


def read_json(uri: str) -> dict[str, Any]:
    """The JSON object in a file; raises DetectorError if there is none."""
    try:
        return json_objects.decoded(files.read_bytes(uri, max_bytes=LARGEST_JSON_BYTES))
    except errors.FetchError as error:
        raise DetectorError(f"{uri}: {error}") from error
    except ValueError as error:
        raise DetectorError(f"{uri} {error}; restore it, or train again") from error
