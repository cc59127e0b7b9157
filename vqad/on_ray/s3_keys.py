"""The S3 keys of a submitted job: they travel as a file in the job's package.

Ray shows a job's environment variables to everybody who may see the job, and logs them on every
node. So the keys are written to a file in the format that every S3 client knows. Every node unpacks
the package in a different folder, so each process of the job sets the file's path when it starts.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE: Final = "aws-credentials"
_NAMES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_VARIABLE: Final = "AWS_SHARED_CREDENTIALS_FILE"


def write(folder: Path, keys: Mapping[str, str]) -> dict[str, object]:
    """Write the file into a package; returns what the job's runtime environment needs for it.

    Raises ValueError for a key that would break the file's format.
    """
    for name, value in keys.items():
        if not value.isprintable():
            raise ValueError(f"{name} contains characters that no key has; set it again")
    lines = ["[default]", *(f"{name.lower()} = {value}" for name, value in keys.items())]
    (folder / FILE).write_text("\n".join([*lines, ""]))
    # A node's own keys would take precedence over any file and must not be mixed with these.
    variables = dict.fromkeys(_NAMES, "") | {"AWS_PROFILE": "default", _VARIABLE: FILE}
    return {"env_vars": variables, "worker_process_setup_hook": f"{__name__}.settle"}


def settle() -> None:
    """Make the file's path absolute. Ray calls this in the package's folder as a process starts.

    It must happen then, because Ray Train later changes the current folder of its workers.
    """
    os.environ[_VARIABLE] = str(Path(os.environ[_VARIABLE]).absolute())
