"""Commands as a person calls them: in a process of their own, or, where that adds nothing, here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.__main__ import main
from tests.on_ray.conftest import finished, local_ray

__all__ = ["finished", "local_ray"]


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


@pytest.fixture
def vqad(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The same in this process, which has imported what takes seconds."""

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        code = main([str(each) for each in arguments])
        return Ended(code=code, out=(found := capfd.readouterr()).out, err=found.err)

    return call


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demo's folder and how it ended."""

    folder: Path
    ended: Ended


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`vqad demo` with few pictures: the one real training of three categories."""
    folder = tmp_path_factory.mktemp("demo") / "night"
    numbers = ("--num-train", 60, "--num-good", 8, "--num-defect", 8)
    ended = start("demo", "--output", folder, *numbers, home=folder.parent, timeout_s=550)
    return Demo(folder=folder, ended=ended)
