"""The S3 keys of a submitted job: a file of its package, which every node unpacks somewhere else.

Ray shows a job's variables to whoever may see the job, and writes them to a log on every node. So
keys go as a file in the form that every S3 client knows, and each process of the job is told here
where it lies.
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

    Raises ValueError for a key that would break the file.
    """
    for name, value in keys.items():
        if not value.isprintable():
            raise ValueError(f"{name} holds characters that no key has; set it anew")
    lines = ["[default]", *(f"{name.lower()} = {value}" for name, value in keys.items())]
    (folder / FILE).write_text("\n".join([*lines, ""]))
    # The nodes' own keys, which come before any file, must not be mixed with these.
    variables = dict.fromkeys(_NAMES, "") | {"AWS_PROFILE": "default", _VARIABLE: FILE}
    return {"env_vars": variables, "worker_process_setup_hook": f"{__name__}.settle"}


def settle() -> None:
    """Make the file's place absolute. Ray calls it when a process starts, in the package.

    Later is too late: Ray Train moves its workers to other folders.
    """
    os.environ[_VARIABLE] = str(Path(os.environ[_VARIABLE]).absolute())
