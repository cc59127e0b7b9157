"""The locks agree with each other, with pyproject.toml and with what is installed here."""

import re
import runpy
import tomllib
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.kuberay_schemas import ROOT
from tests.support.locks import locked

IMAGE, CUDA = "image.lock", "image-cuda.lock"


def needed_at_run_time() -> set[str]:
    """What pyproject.toml requires without extras, and what that requires here, and so on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [(Requirement(each), "") for each in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras}:
            name = canonicalize_name(requirement.name)
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting.extend((Requirement(each), wanted) for each in requires(name) or ())
    return {name for name, _ in seen}


@pytest.mark.parametrize("name", [IMAGE, CUDA])
def test_each_line_of_a_lock_of_the_image_has_one_version_and_one_hash(name: str) -> None:
    lines = (ROOT / "cluster" / name).read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert pins == sorted(pins, key=str.lower)
    assert len(locked(name)) == len(pins)


def test_the_image_has_the_versions_that_the_tests_ran_with() -> None:
    everything, image, cuda = locked("requirements.lock"), locked(IMAGE), locked(CUDA)
    assert image.items() <= everything.items()
    assert cuda["torch"] == everything["torch"]
    # PyTorch with CUDA pins the rest; nothing else requires it, and it is not installed for tests.
    others = cuda.keys() - {"torch"}
    assert all(name.startswith(("cuda-", "nvidia-", "triton")) for name in others)
    assert not others & (image.keys() | everything.keys())


def test_the_image_has_what_runs_and_nothing_that_only_tests_need() -> None:
    assert needed_at_run_time() == locked(IMAGE).keys() | {"torch"}
    assert not locked(IMAGE).keys() & {"pytest", "mypy", "ruff", "duckdb", "polars", "hypothesis"}


def test_what_is_installed_here_has_the_locked_versions() -> None:
    for name, pinned in locked(IMAGE).items():
        assert version(name) == pinned, f"{name}: pip install -c cluster/requirements.lock"


def test_locks_are_made_from_a_report_of_pip() -> None:
    def entry(name: str, digest: str) -> dict[str, object]:
        archive = {"archive_info": {"hashes": {"sha256": digest}}}
        return {"metadata": {"name": name, "version": "1"}, "download_info": archive}

    this_project = {"metadata": {"name": "vqad", "version": "1"}, "download_info": {"dir_info": {}}}
    named = [("torch", "a"), ("numpy", "b"), ("nvidia-nccl", "c"), ("Jinja2", "d"), ("attrs", "e")]
    report = {"install": [this_project, *(entry(name, digest) for name, digest in named)]}
    made = runpy.run_path(str(ROOT / "cluster" / "image_locks.py"))["locks"](report)
    without_notes = {name: re.sub("#.*\n", "", text) for name, text in made.items()}
    assert without_notes == {
        IMAGE: "attrs==1 --hash=sha256:e\nJinja2==1 --hash=sha256:d\nnumpy==1 --hash=sha256:b\n",
        CUDA: "nvidia-nccl==1 --hash=sha256:c\ntorch==1 --hash=sha256:a\n",
    }
    for name, text in made.items():
        assert (ROOT / "cluster" / name).read_text().startswith("".join(re.findall("#.*\n", text)))
