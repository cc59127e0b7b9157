"""The order of the rooms: each folder of `vqad` imports from the folders below it alone."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vqad

ROOT = Path(vqad.__file__).parents[1]
FILES = sorted([*ROOT.glob("vqad/**/*.py"), *ROOT.glob("jobs/*.py")])
# From the ground up. A room imports from the rows above its own row here, and from itself.
FLOORS = [
    {"vqad.tables", "vqad.array_types"},
    {"vqad.storage", "vqad.model", "vqad.synthetic"},
    {"vqad.images"},
    {"vqad.detection"},
    {"vqad.detector"},
    {"vqad.training", "vqad.inspection"},
    {"vqad.evaluation", "vqad.benchmarks", "vqad.report", "vqad.export"},
    {"vqad.on_ray"},
    {"jobs"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The folder of a module, or the module itself on the ground floor of `vqad`."""
    parts = module.split(".")
    return parts[0] if parts[0] == "jobs" else ".".join(parts[:2])


@cache
def imports_of(path: Path) -> list[str]:
    """Full names of all that a file imports anywhere, inside functions as well."""
    return list(_imports_of(path))


def _imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = {module_of(path): path for path in FILES}
# Packages say what is in them; the package `vqad` itself stands under everything.
IN_ROOMS = {name: path for name, path in MODULES.items() if name != "vqad"}


def home_of(imported: str) -> str:
    """The module that an imported name is, or is in."""
    return imported if imported in MODULES else imported.rpartition(".")[0]


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


def modules_of(*rooms: str) -> list[str]:
    return [name for name in IN_ROOMS if room_of(name) in rooms]


def test_every_module_stands_in_a_room_that_has_a_floor() -> None:
    assert {room_of(name) for name in IN_ROOMS} == set(FLOOR)
    assert "torch.nn.functional" in set(imports_of(MODULES["vqad.model.vqvae"]))


@pytest.mark.parametrize("name", IN_ROOMS)
def test_a_room_imports_from_itself_and_from_the_floors_below(name: str) -> None:
    ours = room_of(name)
    for imported in imports_of(MODULES[name]):
        home = home_of(imported)
        if home in MODULES and home != "vqad":
            theirs = room_of(home)
            assert theirs == ours or FLOOR[theirs] < FLOOR[ours], f"{name} imports {imported}"


@pytest.mark.parametrize("name", IN_ROOMS)
def test_a_name_is_imported_from_the_module_that_defines_it(name: str) -> None:
    """No module hands on another's names, but for the doors of a package."""
    for imported in imports_of(MODULES[name]):
        home, _, last = imported.rpartition(".")
        if imported in MODULES or home not in MODULES or MODULES[home].name == "__init__.py":
            continue
        handed_on = {each.rpartition(".")[2] for each in imports_of(MODULES[home])}
        assert last not in handed_on, f"{name} imports {imported}, which {home} imports itself"


@pytest.mark.parametrize("name", IN_ROOMS)
def test_no_module_imports_itself_by_way_of_others(name: str) -> None:
    """A module that needs itself loads only if another happened to be first."""
    seen, waiting = set(), [name]
    while waiting:
        for imported in imports_of(MODULES[waiting.pop()]):
            home = home_of(imported)
            assert home != name, f"{name} imports itself"
            if home in IN_ROOMS and home not in seen:
                seen.add(home)
                waiting.append(home)


@pytest.mark.parametrize("name", IN_ROOMS)
def test_ray_is_imported_by_its_room_alone(name: str) -> None:
    packages = {imported.partition(".")[0] for imported in imports_of(MODULES[name])}
    assert "ray" not in packages or room_of(name) == "vqad.on_ray"


def test_the_model_loads_torch_and_nothing_that_reads_files() -> None:
    loaded = loaded_by(*modules_of("vqad.model"))
    assert "torch" in loaded
    assert not loaded & {"ray", "s3fs", "fsspec", "cv2", "PIL", "pyarrow", "pandas", "jobs"}


def test_the_library_without_its_ray_room_loads_no_ray() -> None:
    loaded = loaded_by(*modules_of(*(FLOOR.keys() - {"vqad.on_ray", "jobs"})))
    assert {"torch", "cv2", "pyarrow"} <= loaded
    assert not loaded & {"ray", "jobs"}


def test_storage_and_tables_load_no_torch() -> None:
    loaded = loaded_by(*modules_of("vqad.array_types", "vqad.tables", "vqad.storage"))
    assert "pyarrow" in loaded
    assert not loaded & {"torch", "ray", "cv2"}


def test_the_client_of_object_storage_is_loaded_by_the_first_request() -> None:
    """It takes half a second of each process, and local archives don't need it."""
    loaded = loaded_by("vqad.inspection.inspector", "vqad.inspection.stages", "vqad.report.survey")
    assert not loaded & {"s3fs", "fsspec", "botocore", "aiohttp"}


def test_the_jobs_load_neither_torch_nor_ray() -> None:
    loaded = loaded_by(*modules_of("jobs"))
    assert "pydantic_settings" in loaded
    assert not loaded & {"torch", "ray"}


def test_tasks_that_decode_and_write_load_no_torch() -> None:
    """Each process that runs them would load it before its first image."""
    loaded = loaded_by("vqad.on_ray.stage_tasks")
    assert {"ray", "cv2", "pyarrow"} <= loaded
    assert "torch" not in loaded
