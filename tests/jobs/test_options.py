"""Options: one configuration file for all commands, names of categories, and secrets in URIs."""

import importlib
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import vqad as library
from jobs import categories
from jobs.options import UsageError, parse
from tests.jobs.test_help import options_of_all_commands
from tests.support.commands import Ended

Vqad = Callable[..., Ended]
COMMANDS = sorted(options_of_all_commands())
ROOT = Path(library.__file__).parents[1]

NIGHT = """
data = "s3://factory/good"
archive = "s3://factory/night"
models = "s3://factory/models"
output = "s3://factory/inspected"
preset = "tiny"
batch_size = 4
num_steps = 3
ablations = true
category = "tile"
format = "coco"
version = "20261126T205204Z-1a2b3c4d"
reviews = "s3://factory/marks.jsonl"

[categories.tile]
kind = "texture"
minimum_area_px = 100
"""


@pytest.fixture
def night(tmp_path: Path) -> Path:
    (tmp_path / "night.toml").write_text(NIGHT)
    return tmp_path / "night.toml"


@pytest.mark.parametrize("name", COMMANDS)
def test_one_file_serves_every_command(name: str, night: Path) -> None:
    model = options_of_all_commands()[name]
    options = parse(model, ["--config", str(night)])
    given = tomllib.loads(NIGHT)
    tables = given.pop("categories")
    own = {each: value for each, value in given.items() if each in model.model_fields}
    assert {each: getattr(options, each) for each in own} == own
    if "per_category" in model.model_fields:
        (table,) = options.per_category.values()
        assert table.model_dump(exclude_none=True) == tables["tile"]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('colour = "red"\n', " sets colour, which no command has; there are: "),
        ("[categories.a]\ncolour = 1\n", " sets colour in [categories.a], which no command has; "),
        ("[categories]\na = 1\n", "expected a table in [categories.a] of "),
    ],
)
def test_a_key_of_no_command_is_refused_by_name(
    name: str, line: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "night.toml").write_text(line)
    with pytest.raises(UsageError) as caught:
        parse(options_of_all_commands()[name], ["--config", str(tmp_path / "night.toml")])
    assert str(caught.value).startswith("--config: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["botle"], "has no botle; did you mean bottle?"),
        (["Pill", "tiles"], "has no Pill, tiles; did you mean pill or tile?"),
        (["zipper", "bottle"], "has no zipper; there are: bottle, pill, tile"),
    ],
)
def test_the_names_most_like_an_unknown_category_are_suggested(given: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        categories.check(given, ["pill", "tile", "bottle"], "data", option="--categories")
    assert str(caught.value) == f"--categories: data {said}"


def test_names_that_exist_are_accepted() -> None:
    categories.check(["pill"], ["pill", "tile"], "data", option="--categories")


def test_a_misspelt_category_of_a_training_is_found_before_ray_is_imported(
    tmp_path: Path, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vqad.on_ray.session", None)  # an import would fail
    for name in ("bottle", "pill", "empty"):
        (tmp_path / "data" / name).mkdir(parents=True)
    line = ("train", "--data", tmp_path / "data", "--models", tmp_path / "models")
    ended = vqad(*line, "--categories", "pill,empty,botle")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"vqad train: --categories: file://{tmp_path}/data has no botle; did you mean bottle?\n"
    )
    assert not (tmp_path / "models").exists()


def test_training_data_one_level_too_deep_are_refused_with_the_folder_above(
    tmp_path: Path, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vqad.on_ray.session", None)  # an import would fail
    for name in ("train/good", "test/broken", "ground_truth/broken"):
        (tmp_path / "bottle" / name).mkdir(parents=True)
        (tmp_path / "bottle" / name / "0.png").write_bytes(b"not looked at")
    ended = vqad("train", "--data", tmp_path / "bottle", "--models", tmp_path / "models")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith(f"--data file://{tmp_path} --categories bottle\n")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "line",
    [
        "inspect --archive s3://KEY:HUSH@b/a --models m --output o",
        "inspect --archive a --models m --output https://KEY:HUSH@host/o",
        "inspect s3://KEY:HUSH@b/a",
        "inspect --archive a --models m --output o --batch-size s3://KEY:HU/SH@b",
        "train --data s3://KEY:HUSH@b/a --models m",
        "train --data d --models m --tensorboard https://KEY:HUSH@host/logs",
        "evaluate --data d --models m --output s3://KEY:HUSH@b",
        "bench train --data s3://KEY:HUSH@b",
        "submit train --data s3://KEY:HUSH@b --models s3://b/m",
        "s3://KEY:HUSH@b",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_shown_nowhere(
    line: str, vqad: Vqad, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = vqad(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert "HUSH" not in ended.err
    assert "SH@" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_project(vqad: Vqad) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert library.__version__ == project["version"]
    ended = vqad("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"vqad {project['version']}\n", "")


def test_every_module_of_a_command_is_listed() -> None:
    from jobs.__main__ import COMMANDS as LISTED

    for module, _ in LISTED.values():
        assert callable(importlib.import_module(module).main)
