"""The READMEs name files, commands and options that exist, and the first one stays short."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vqad
from jobs.__main__ import main

ROOT = Path(vqad.__file__).parents[1]
READMES = sorted(ROOT.glob("README.md")) + sorted(ROOT.glob("*/README.md"))


def test_the_first_readme_is_short_and_opens_with_a_small_picture() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 10_000
    picture = re.search(r"!\[.+\]\((\S+)\)", text[:1000])
    assert picture
    assert 0 < (ROOT / picture[1]).stat().st_size <= 300_000


def test_every_room_has_a_line_in_the_tree_of_the_first_readme() -> None:
    tree = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    shown = set(re.findall(r"^ *([a-z_]+(?:/|\.py)) ", tree, re.MULTILINE))
    rooms = {f"{path.parent.name}/" for path in ROOT.glob("vqad/*/__init__.py")}
    files = {path.name for path in ROOT.glob("vqad/*.py")} - {"__init__.py"}
    assert shown >= rooms | files | {"jobs/", "cluster/", "tests/"}
    for name in shown:
        assert (ROOT / name).exists() or (ROOT / "vqad" / name).exists(), name


def test_files_named_in_the_tree_are_in_the_room_of_their_line() -> None:
    tree = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    named, room = set(), ROOT / "jobs"
    for line in tree.partition("```\n\n")[0].splitlines():
        if found := re.match(r"^  ([a-z_]+)/ ", line):
            room = ROOT / "vqad" / found[1]
        for name in re.findall(r"(?<=[(, ])[a-z_]+\.py(?=[),;])", line):
            assert (room / name).exists(), (room, name)
            named.add(name)
    assert named >= {"calibrate.py", "tar_members.py", "sink.py", "incremental_prior.py", "job.py"}


def figure(text: str, pattern: str) -> float:
    """The number that a pattern finds in a README, at one place and no more."""
    (found,) = re.findall(pattern, text)
    return float(found.replace(",", ""))


def test_the_costs_follow_from_the_figures_that_were_measured() -> None:
    """All READMEs speak of one run of `vqad bench inspect`, and cluster/README.md calculates."""
    first, method, costs = (
        re.sub(r"\s+", " ", (ROOT / folder / "README.md").read_text())
        for folder in ("", "vqad", "cluster")
    )
    pipeline = figure(method, r"pipeline +([\d.]+) images/s on Ray")
    detector = figure(method, r"detector +([\d.]+) images/s Detector")
    decode = figure(method, r"decode +([\d.]+) images/s alone")
    flops = figure(method, r'"matrix_product_gflops": ([\d.]+)')
    share = figure(method, r'"model_share_of_matrix_product": ([\d.]+)')
    start_s = figure(method, r'"start_up_seconds": ([\d.]+)')
    of_core = round(pipeline / 2, 1)
    assert figure(first, r"about ([\d.]+) images per second on each CPU core") == of_core
    assert figure(costs, r"CPU-hours = images / \(3600 \* ([\d.]+)\)") == of_core
    assert figure(costs, r"the pipeline's ([\d.]+) on two cores") == pipeline
    assert figure(costs, r"such images take ([\d.]+) core-hours") == round(1e6 / 3600 / of_core)
    assert figure(costs, r"reached ([\d.]+) % of") == round(100 * share, 1)
    assert figure(costs, r"% of ([\d.]+) GFLOP/s") == flops
    assert figure(costs, r"matrix products at ([\d.]+) images/s") == detector
    of_image = figure(costs, r"costs a detector ([\d.]+) GFLOP:")
    assert of_image == round(share * flops / detector, 1)
    assert figure(costs, r"would do ([\d.]+) images/s") == round(3000 / of_image)
    assert figure(costs, r"\| ([\d.]+) images/s of a process on two cores") == decode
    assert figure(costs, r"347 / 4\.8 \| ([\d.]+) cores") == -(-347 // of_core)
    assert figure(costs, r"cores, ([\d,]+) core-hours") == round(1e7 / 3600 / of_core)
    assert figure(costs, r"Starting a pipeline took ([\d.]+) s") == start_s
    dates = [
        re.findall(r"2026-11-\d\d", text)[-1] for text in (method, costs.partition("A has")[0])
    ]
    assert dates == ["2026-11-27", "2026-11-27"]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_modules_exist(readme: Path) -> None:
    text = readme.read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (readme.parent / link).exists(), link
    for name in re.findall(r"`((?:tests/|vqad/)?[a-z_]+/[a-z_/]+\.py)`", text):
        assert any((place / name).exists() for place in (ROOT, readme.parent)), name


def commands_in(readme: Path) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Yield each `vqad` command of a README's code with the options that it is given."""
    text = readme.read_text().replace("\\\n", " ")
    for found in re.finditer(r"vqad ((?:submit |bench |models )?[a-z]+)((?: [^`\n#|]*)?)", text):
        if options := set(re.findall(r"--[a-z][a-z-]*", found[2])):
            yield tuple(found[1].split()), options


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_the_options_that_they_are_shown_with(
    readme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: dict[tuple[str, ...], set[str]] = {}
    for command, options in commands_in(readme):
        shown.setdefault(command, set()).update(options)
    for command, options in shown.items():
        assert main([*command, "--help"]) == 0
        offered = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert options <= offered, (command, options - offered)


def test_commands_are_found_in_the_readmes() -> None:
    found = {command for readme in READMES for command, _ in commands_in(readme)}
    assert found >= {("train",), ("inspect",), ("evaluate",), ("demo",), ("submit", "inspect")}


def test_ci_finds_the_test_command_in_the_first_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    extract = re.search(r"^test_command=\$\((.+)\)$", script, re.MULTILINE)
    assert extract
    done = subprocess.run(
        ["bash", "-euc", extract[1]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "pip install -c cluster/requirements.lock -e '.[test]' && pytest\n"
