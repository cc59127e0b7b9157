"""The image is built from fixed parts, and what is missing ends the build with a reason."""

import json
import re
import subprocess
from pathlib import Path

from tests.support.dockerfile import steps
from tests.support.kuberay_schemas import ROOT
from tests.support.locks import locked
from tests.support.manifests import CLUSTER


def test_the_image_ends_as_a_user_who_is_not_root_and_installs_nothing_at_start() -> None:
    found = list(steps())
    users = [rest for instruction, rest in found if instruction == "USER"]
    assert users == ["1000"]
    assert any(rest.startswith("useradd ") and "--uid 1000" in rest for _, rest in found)
    after = [instruction for instruction, _ in found[found.index(("USER", "1000")) :]]
    assert "RUN" not in after
    (command,) = (json.loads(rest) for instruction, rest in found if instruction == "CMD")
    assert command == ["vqad", "--help"]


def test_the_dockerfile_starts_from_a_python_that_the_project_supports_by_digest() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (.+)$", text, re.MULTILINE)
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", bases[0])
    assert bases[0].partition("@")[0] in (CLUSTER / "README.md").read_text()
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_the_dockerfile_installs_nothing_from_an_index_without_its_hash() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install .*?(?=&&|\n)", text)
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        # Only this project comes without a hash: from a folder, built by the locked setuptools.
        assert ("--require-hashes" in install) != (" --no-build-isolation . " in install)


def torch_lock(folder: Path, **arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the step that installs PyTorch, with a pip that only shows what it would install."""
    (step,) = (
        rest
        for instruction, rest in steps()
        if instruction == "RUN" and "VARIANT" in rest and "pip" in rest
    )
    (folder / "cluster").mkdir(exist_ok=True)
    (folder / "cluster" / "image-cuda.lock").write_text((CLUSTER / "image-cuda.lock").read_text())
    return subprocess.run(
        ["sh", "-euc", 'pip() { echo "pip $*"; cat torch.lock; }; ' + step],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "TORCH_INDEX_URL": "", "TORCH_SHA256": ""} | arguments,
        capture_output=True,
        text=True,
    )


def test_each_variant_installs_its_own_pytorch_with_its_hash(tmp_path: Path) -> None:
    cuda = torch_lock(tmp_path, VARIANT="cuda").stdout
    assert (CLUSTER / "image-cuda.lock").read_text() in cuda
    assert "--index-url" not in cuda
    options = {"TORCH_SHA256": "ab12", "TORCH_INDEX_URL": "https://wheels.example"}
    cpu = torch_lock(tmp_path, VARIANT="cpu", **options).stdout
    version = locked("image-cuda.lock")["torch"]
    assert cpu.splitlines()[1:] == [f"torch=={version} --hash=sha256:ab12"]
    assert "--index-url https://wheels.example" in cpu


def test_a_build_for_cpus_without_the_hash_of_its_pytorch_ends_with_the_reason(
    tmp_path: Path,
) -> None:
    done = torch_lock(tmp_path, VARIANT="cpu")
    assert done.returncode != 0
    assert "TORCH_SHA256: of the wheel for CPUs" in done.stderr
    assert done.stdout == ""
