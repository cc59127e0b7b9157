"""`--help` in plain words, and jobs/README.md, which must say the same."""

import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

import jobs
from jobs.__main__ import main
from jobs.options import Options, flag_of
from jobs.train import TrainCommand
from tests.support.commands import Ended
from vqad.detection import calibrate, surprisal
from vqad.model import bfloat16, kinds
from vqad.training.options import FormName, KindName, PrecisionName, PresetName, TrainOptions
from vqad.training.presets import PRESETS

Vqad = Callable[..., Ended]
README = Path(jobs.__file__).with_name("README.md").read_text()
BLOCKS = dict(re.findall(r"```\n\$ vqad ?([a-z ]*) ?--help\n(.*?)```", README, re.DOTALL))
HELP = {name.strip(): text for name, text in BLOCKS.items()}

PYTHON_TYPES = re.compile(
    r"\b(str|int|float|bool|tuple|dict|datetime|Path|None|Literal|Union)\b|list\[|\(default: \)"
)


def listed(text: str) -> list[str]:
    """The commands that a help text lists."""
    _, _, commands = text.partition("\nCommands:\n")
    return re.findall(r"^  (\w+)", commands.partition("\n\n")[0], re.MULTILINE)


def all_commands(vqad: Vqad, *above: str) -> Iterator[str]:
    yield " ".join(above)
    for name in listed(vqad(*above, "--help").out):
        yield from all_commands(vqad, *above, name)


def test_the_readme_has_the_help_of_every_command_and_of_no_other(vqad: Vqad) -> None:
    found = list(all_commands(vqad))
    assert {"", "inspect", "bench", "bench resample", "submit train"} <= set(found)
    assert sorted(HELP) == sorted(found)


@pytest.mark.parametrize("name", HELP)
def test_the_readme_shows_every_option_and_default_as_help_does(name: str, vqad: Vqad) -> None:
    ended = vqad(*name.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert HELP[name] == ended.out


@pytest.mark.parametrize("name", HELP)
def test_help_has_an_example_and_no_python_types(name: str) -> None:
    text = HELP[name]
    assert text.startswith(f"usage: {f'vqad {name}'.strip()} ")
    assert not PYTHON_TYPES.search(text), PYTHON_TYPES.search(text)
    example = re.search(r"\nExample:\n  (vqad .*)\n", text)
    assert example
    assert example[1].startswith(f"vqad {name}".strip())


def options_of_all_commands() -> dict[str, type[Options]]:
    for module in pkgutil.iter_modules(jobs.__path__):
        if module.name != "__main__":
            importlib.import_module(f"jobs.{module.name}")
    waiting, found = [Options], {}
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        if name := each.model_config.get("cli_prog_name"):
            found[str(name).removeprefix("vqad ")] = each
    return found


@pytest.mark.parametrize("name", [name for name in HELP if not listed(HELP[name])])
def test_help_says_what_every_option_is_for_and_its_default(name: str) -> None:
    model = options_of_all_commands()[name]
    entries = re.split(r"\n  (?=--)", HELP[name].partition("\nOptions:")[2].partition("\n\n")[0])
    by_flag = {each.split()[0]: " ".join(each.split()) for each in entries if each}
    expected = {"--help"}
    for field_name, field in model.model_fields.items():
        if field_name == "per_category":  # a table of the configuration file, and no flag
            continue
        is_on = field.annotation is bool and field.default
        expected.add(flag := flag_of(f"no-{field_name}" if is_on else field_name))
        assert field.description
        assert "".join(field.description.split()) in by_flag[flag].replace(" ", "")
        said = "(required)" if field.is_required() else "default: "
        assert said in by_flag[flag]
    assert set(by_flag) == expected


def test_the_example_of_every_command_can_be_parsed() -> None:
    from jobs.options import parse

    checked = 0
    for name, text in HELP.items():
        line = re.search(r"\nExample:\n  (vqad .*)\n", text)
        if line and not listed(text):
            arguments = line[1].split()[1 + len(name.split()) :]
            assert parse(options_of_all_commands()[name], arguments)
            checked += 1
    assert checked >= 9


def test_every_option_that_the_readme_mentions_exists() -> None:
    """In its own words, outside of the help that it shows."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose))
    assert {"--config", "--eta", "--redo"} <= mentioned
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join(HELP.values())))
    assert mentioned <= known | {"--help"}


def test_choices_of_options_are_those_of_the_library() -> None:
    assert get_args(PresetName) == tuple(PRESETS)
    assert get_args(FormName) == get_args(surprisal.Form)
    assert get_args(KindName) == get_args(kinds.Kind)
    assert get_args(PrecisionName) == get_args(bfloat16.Precision)
    assert TrainOptions(category="a", kind="object").eta == calibrate.DEFAULT_ETA


def test_the_option_declared_in_the_library_is_the_flag_of_the_command() -> None:
    field = TrainCommand.model_fields["seed"]
    assert field.description == TrainOptions.__dataclass_fields__["seed"].metadata["help"]
    assert "heldout_group" not in TrainCommand.model_fields


def test_help_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from jobs.__main__ import main; main(['inspect', '--help'])\n"
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", ["", "teach", "bench", "bench teach"])
def test_a_missing_or_unknown_command_is_exit_code_2_with_those_that_exist(
    line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    captured = capfd.readouterr()
    (said,) = captured.err.splitlines()
    assert captured.out == ""
    assert ("resample, inspect, train" if "bench" in line else "demo, train") in said
