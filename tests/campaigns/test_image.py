"""The steps of the Dockerfile, run in a fresh virtual environment because no image can be built."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support.dockerfile import steps
from tests.support.kuberay_schemas import ROOT
from tests.support.locks import locked

NOBODY = 65534
# A guess: time to install PyTorch and fit three detectors on a machine that may be busy.
WITHIN_S = 3600


def copied(context: Path) -> None:
    """Copy what the COPY instructions name into a folder."""
    for instruction, rest in steps():
        if instruction == "COPY":
            *sources, target = rest.split()
            for source in sources:
                there = context / (
                    f"{target}/{Path(source).name}" if target.endswith("/") else target
                )
                there.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    left_out = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, there, ignore=left_out)
                else:
                    shutil.copy(ROOT / source, there)


def python_for_everybody() -> Path:
    """Return a Python that another user may run: this one or the system's."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.base_prefix) / "bin" / name, Path("/usr/bin") / name]
    for candidate in candidates:
        with suppress(OSError):
            subprocess.run([candidate, "-c", ""], cwd="/", user=NOBODY, check=True)
            return candidate
    pytest.skip(f"none of {candidates} can be run by another user")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment in which each RUN was run, except those that need Debian or root."""
    # Directly below /tmp, because another user must be able to reach it.
    home = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    home.chmod(0o755)
    copied(home / "context")
    subprocess.run([python_for_everybody(), "-m", "venv", home / "venv"], check=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    environment |= {"PATH": f"{home}/venv/bin:{os.environ['PATH']}", "TORCH_INDEX_URL": ""}
    environment |= variant_for(home, environment)
    num_run = 0
    for instruction, rest in steps():
        if instruction == "RUN" and not rest.startswith(("apt-get ", "useradd ")):
            done = subprocess.run(
                ["sh", "-euc", rest],
                cwd=home / "context",
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            num_run += 1
    assert num_run == 4
    yield home
    shutil.rmtree(home)


def variant_for(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the build arguments for the PyTorch that this machine's pip finds."""
    lock = (ROOT / "cluster" / "image-cuda.lock").read_text()
    (torch,) = re.findall(r"^torch==\S+", lock, re.MULTILINE)
    wheels = home / "wheels"
    subprocess.run(
        [
            home / "venv" / "bin" / "pip",
            "download",
            "--quiet",
            "--no-deps",
            f"--dest={wheels}",
            torch,
        ],
        env=environment,
        check=True,
    )
    (wheel,) = wheels.iterdir()
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    shutil.rmtree(wheels)
    return {"VARIANT": "cuda" if found in lock else "cpu", "TORCH_SHA256": found}


def built_for(venv: Path) -> str:
    """Return the variant of the PyTorch that was installed: cuda or cpu."""
    code = "import torch; print('cuda' if torch.version.cuda else 'cpu')"
    return subprocess.check_output([venv / "bin" / "python", "-c", code], text=True).strip()


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_the_check_of_the_variant_ends_a_build_that_is_not_what_it_says(image: Path) -> None:
    (check,) = (rest for instruction, rest in steps() if "torch.version.cuda" in rest)
    wrong = "cpu" if built_for(image / "venv") == "cuda" else "cuda"
    done = subprocess.run(
        ["sh", "-euc", check],
        env={"PATH": f"{image}/venv/bin:/usr/bin:/bin", "VARIANT": wrong},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"VARIANT={wrong}, but this PyTorch is for " in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_what_was_installed_is_what_the_locks_of_the_image_name(image: Path) -> None:
    listed = subprocess.check_output([image / "venv" / "bin" / "pip", "freeze", "--all"], text=True)
    found = re.findall(r"^(\S+)==([^\s+]+)", listed, re.MULTILINE)
    installed = {canonicalize_name(name): version for name, version in found}
    named = locked("image.lock")
    with_cuda = built_for(image / "venv") == "cuda"
    cuda = locked("image-cuda.lock")
    named |= cuda if with_cuda else {"torch": cuda["torch"]}
    assert {name: installed.get(name) for name in named} == named
    assert installed.keys() - named.keys() <= {"pip", "vqad"}


# The places of the manifests in which a pod may write are empty here as well, and all else is
# read-only. The image is mounted again, because it lies below /tmp.
AS_A_POD = """
mount --make-rprivate /
mount --bind "$IMAGE" /mnt
for place in /tmp /home /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $place; done
mkdir -p "$IMAGE"
mount --move /mnt "$IMAGE"
mount -o remount,bind,ro "$IMAGE"
mount -o remount,bind,ro /
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all "$@"
"""


def as_a_pod(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a container of the manifests would be run."""
    environment = {"HOME": "/home", "PATH": f"{image}/venv/bin:/usr/bin:/bin", "IMAGE": str(image)}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", AS_A_POD, "sh", *command],
        cwd="/",
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
def test_the_demo_runs_as_a_user_without_rights_on_a_read_only_root(image: Path) -> None:
    assert os.geteuid() == 0, "needs root, to mount and to change to another user"
    for place in ("/", "/var/tmp", image):
        refused = as_a_pod(image, "touch", f"{place}/file")
        assert refused.returncode == 1
        assert "Read-only file system" in refused.stderr
    numbers = "--num-train 24 --num-good 4 --num-defect 4"
    done = as_a_pod(image, "vqad", "demo", "--output", "/home/night", *numbers.split())
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert (summary["listed"], summary["reject"]) == (24, 0)
