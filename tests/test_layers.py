"""Who may import whom: rooms of the house, told by what their files say and by what they load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vqad

ROOT = Path(vqad.__file__).parents[1]
LIBRARY = sorted(ROOT.glob("vqad/**/*.py"))
OUTSIDE_RAY = [path for path in LIBRARY if "on_ray" not in path.parts]
JOBS = sorted(ROOT.glob("jobs/*.py"))
MODEL_CODE = ("vqvae", "pixelsnail", "resample", "augment")
# What knows files, stores or Ray.
OF_FILES = {
    "archives",
    "detector",
    "failures",
    "headers",
    "images",
    "on_ray",
    "routing",
    "s3",
    "sheets",
    "stored",
    "truth",
    "tables",
    "uris",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Full names of all that a file imports anywhere, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after importing these modules."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout))


def names(paths: list[Path]) -> list[str]:
    return [module_of(path) for path in paths]


def test_the_rooms_are_found() -> None:
    found = names(LIBRARY + JOBS)
    assert {"vqad.vqvae", "vqad.on_ray.inspect", "vqad.drawn", "jobs.train"} <= set(found)
    assert {f"vqad.{name}" for name in MODEL_CODE} <= set(found)
    assert "torch.nn.functional" in set(imports_of(ROOT / "vqad" / "vqvae.py"))


@pytest.mark.parametrize("name", MODEL_CODE)
def test_model_code_imports_torch_and_no_files(name: str) -> None:
    for imported in imports_of(ROOT / "vqad" / f"{name}.py"):
        package, _, rest = imported.partition(".")
        assert package in {*sys.stdlib_module_names, "torch", "vqad"}, imported
        assert package not in {"io", "os", "pathlib", "shutil", "tempfile"}, imported
        if package == "vqad":
            assert rest.partition(".")[0] not in OF_FILES, imported


@pytest.mark.parametrize("path", OUTSIDE_RAY, ids=module_of)
def test_the_library_outside_on_ray_imports_no_ray_and_no_jobs(path: Path) -> None:
    for imported in imports_of(path):
        assert imported.partition(".")[0] not in {"ray", "jobs"}
        assert not imported.startswith("vqad.on_ray")


@pytest.mark.parametrize("path", LIBRARY, ids=module_of)
def test_the_library_does_not_import_the_jobs(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.partition(".")[0] == "jobs"]


def test_model_code_loads_nothing_that_reads_files_or_ray() -> None:
    loaded = loaded_by(*(f"vqad.{name}" for name in MODEL_CODE))
    assert "torch" in loaded
    assert not loaded & {"ray", "s3fs", "fsspec", "cv2", "PIL", "pyarrow", "pandas", "jobs"}


def test_the_library_outside_on_ray_loads_no_ray() -> None:
    loaded = loaded_by(*names(OUTSIDE_RAY))
    assert {"torch", "cv2", "pyarrow", "s3fs"} <= loaded
    assert not loaded & {"ray", "jobs"}


def test_shapes_tables_and_archives_load_no_torch() -> None:
    loaded = loaded_by("vqad.shapes", "vqad.tables", "vqad.archives")
    assert "s3fs" in loaded
    assert not loaded & {"torch", "ray", "cv2"}


def test_the_jobs_load_neither_torch_nor_ray() -> None:
    loaded = loaded_by(*names(JOBS))
    assert "pydantic_settings" in loaded
    assert not loaded & {"torch", "ray"}


@pytest.mark.parametrize("path", OUTSIDE_RAY, ids=module_of)
def test_no_module_imports_itself_by_way_of_others(path: Path) -> None:
    """A module that needs itself loads only where another happened to be first."""
    files = {module_of(each): each for each in LIBRARY}
    start, seen, waiting = module_of(path), set(), [module_of(path)]
    while waiting:
        for imported in imports_of(files[waiting.pop()]):
            name = imported if imported in files else imported.rpartition(".")[0]
            assert name != start, f"{start} imports itself"
            if name in files and name not in seen and name != "vqad":
                seen.add(name)
                waiting.append(name)
