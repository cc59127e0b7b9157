"""JSON objects as they are stored: in lines that people can read, and refused if they are none."""

import json
from typing import Any


def encoded(value: dict[str, Any]) -> bytes:
    """A JSON object as the bytes of a file."""
    return (json.dumps(value, indent=2) + "\n").encode()


def decoded(data: bytes) -> dict[str, Any]:
    """The JSON object in a file; raises ValueError, which says what the file is not.

    The caller adds which file it is, and what would do.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    return found
