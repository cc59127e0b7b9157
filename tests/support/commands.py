"""Commands as a person calls them, in a process of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command left on its streams, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The only line of standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def clean_environment(home: Path) -> dict[str, str]:
    """No Ray, no options, no credentials but those that a test sets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "VQAD_", "RAY_"))
    }
    return kept | {
        "OMP_NUM_THREADS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "none"),
        "AWS_CONFIG_FILE": str(home / "none"),
    }


def start(*arguments: object, home: Path, timeout_s: float = 60) -> Ended:
    """`python -m jobs ARGUMENTS` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demo's folder and how it ended."""

    folder: Path
    ended: Ended
