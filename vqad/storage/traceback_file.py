"""A file for the traceback of an error, which is too long for the one line that a person reads."""

import os
import tempfile

from vqad.storage.uris import without_secrets


def write(text: str, command: str) -> str:
    """Write a traceback to a new temporary file for this user alone; returns its path.

    Returns "" where it cannot be written: the error itself matters more.
    """
    try:
        number, path = tempfile.mkstemp(prefix=f"vqad-{command.replace(' ', '-')}-", suffix=".txt")
        with os.fdopen(number, "w", errors="replace") as file:
            file.write(without_secrets(text))
    except OSError:
        return ""
    return path
