"""Settings of a private Ray: a folder and a token of its own, and sockets on loopback alone.

Whoever reaches Ray's ports can run code as this user. So a private Ray asks for a token that only
this run knows, and listens where only this machine can connect, whatever the environment says.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from vqad.storage.errors import VqadError

# The name of a socket has at most 107 bytes (the kernel's bound, less on macOS). Ray's socket is
# FOLDER/session_2026-11-25_12-00-00_123456_1234567/sockets/plasma_store.
LONGEST_FOLDER_BYTES: Final = 103 - 64
_RAY: Final = "r"  # Ray's own folder, short for the same reason
_PREFIX: Final = "vqad-"
_NUM_RANDOM: Final = 8  # characters that tempfile adds to the prefix


class NoRayError(VqadError, ValueError):
    """There is no Ray to run on, and nothing was started."""


@contextmanager
def prepared() -> Iterator[Path]:
    """Make the folder and the token, and set the environment of a Ray that is started within.

    Yields the folder for Ray's logs and sockets, which is removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=short_folder()))  # for this user alone
    try:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        asked = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_AUTH_TOKEN": None,  # it would be preferred to the file
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        with _environment(asked), _alone():
            yield folder / _RAY  # Ray opens it to everybody, but not the folder above
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def short_folder() -> str:
    """A folder for temporary files whose name is short enough for sockets. Raises NoRayError."""
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    longest = LONGEST_FOLDER_BYTES - len(f"/{_PREFIX}/{_RAY}") - _NUM_RANDOM
    for folder in (wanted, "/tmp", "/var/tmp"):  # noqa: S108 (mkdtemp makes a folder of our own)
        if len(os.fsencode(folder)) <= longest and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise NoRayError(
        f"Ray needs a folder for its sockets with a name of at most {longest} bytes: {wanted} has "
        f"{len(os.fsencode(wanted))}, and /tmp cannot be written; set TMPDIR to a shorter one"
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Have Ray take 127.0.0.1 as the address of this machine, and listen there alone.

    Else it takes the outside address, also where it is given 127.0.0.1, and listens on all
    addresses. Ray has this switch, which it read when it was imported, for systems without
    clusters.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _environment(asked: Mapping[str, str | None]) -> Iterator[None]:
    """Set or remove variables that Ray reads, and put them back at the end."""
    before = {name: os.environ.get(name) for name in asked}
    _set(asked)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # Ray keeps what it read of mode and token when it was imported.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
