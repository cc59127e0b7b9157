"""The errors that a newcomer makes first: one line that says what would do, and nothing started."""

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Ended, clean_environment, start
from tests.support.finished_inspection import ON_RAY, Finished

pytestmark = ON_RAY
Vqad = Callable[..., Ended]


@pytest.fixture
def place(finished: Finished, tmp_path: Path) -> dict[str, str]:
    """Places by name, to be put into arguments."""
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    (tmp_path / "flat").mkdir()
    picture = (finished.archive / "alone.png").read_bytes()
    (tmp_path / "flat" / "1.png").write_bytes(picture)
    (tmp_path / "pills" / "pill").mkdir(parents=True)
    (tmp_path / "pills" / "pill" / "1.png").write_bytes(picture)
    (tmp_path / "columns.csv").write_text("picture,kind\na.png,pill\n")
    (tmp_path / "unknown.toml").write_text('colour = "red"\n')
    (tmp_path / "broken.toml").write_text("archive = \n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not lose")
    archive, models = str(finished.archive), str(finished.models)
    return {"here": str(tmp_path), "archive": archive, "models": models}


INSPECT = "inspect --archive {archive} --models {models} --output {here}/output"
TRAIN = "train --data {archive} --models {here}/models"
EVALUATE = "evaluate --data {archive} --models {models} --output {here}/output"
BY_HAND = "inspect --models {models} --output {here}/output --archive"

# Each line, and what is said of it after "vqad COMMAND: ", as a pattern.
NOT_STARTED = {
    f"{BY_HAND} {{here}}/nowhere": r".*/nowhere: no such file or folder; check the path$",
    f"{BY_HAND} {{here}}/empty": r"no images in .*/empty$",
    f"{BY_HAND} {{archive}} --include *.bmp": r"no images in .* \(matching '\*\.bmp'\)$",
    f"{BY_HAND} {{here}}/pills": (
        r"no detector in .*/models for any of pill; there are: fabric, washer; train one with vqad "
        r"train, or give --category$"
    ),
    f"{BY_HAND} {{here}}/flat": (
        r"cannot tell the category of any image in .*/flat: they are not in category folders; "
        r"give --category NAME, --category-pattern REGEX or --manifest URI$"
    ),
    "inspect --archive {archive} --models {models} --output {here}/full/thesis.txt": (
        r"--output (.*/full/thesis.txt): \1 is not a folder; give another folder$"
    ),
    "inspect --archive {archive} --models {models} --output /proc/vqad": (
        r"--output /proc/vqad: no file can be created in /proc \("
    ),
    "train --data {archive} --models {here}/full/thesis.txt/models": (
        r"--models .*/thesis.txt/models: .*/full/thesis.txt is not a folder; give another folder$"
    ),
    "evaluate --data {archive} --models {models} --output {here}/full/thesis.txt": (
        r"--output .*/full/thesis.txt is not a folder; give another folder$"
    ),
    "demo --output {here}/full/thesis.txt": r"--output .*/thesis.txt is not a folder; give anoth",
    f"{INSPECT} --category pill": r"no detector in .* for any of pill; there are: fabric, washer",
    f"{INSPECT} --colour red": r"unrecognized arguments: --colour red$",
    "inspect --models m --output o": r"--archive is required$",
    "inspect": r"--archive is required; --models is required; --output is required$",
    f"{INSPECT} --batch-size many": r"--batch-size: .*valid integer.*, got 'many'$",
    f"{INSPECT} --batch-size 0": r"batch_size must be at least 1, got 0$",
    f"{INSPECT} --num-actors 0": r"num_actors must be at least 1, got 0$",
    f"{INSPECT} --maps some": r".*--maps: .*'all', 'defect' or 'none'.*|.*--maps: invalid choice.*",
    f"{INSPECT} --max-reject-fraction 2": r"max_reject_fraction must be from 0 to 1, got 2$",
    f"{INSPECT} --max-defect-fraction -1": r"max_defect_fraction must be from 0 to 1, got -1$",
    f"{INSPECT} --notify ftp://host/x": r"notify must be http://HOST/... or https://HOST/... with",
    f"{INSPECT} --modified-since 2026-01-01T00:00:00": (
        r"--modified-since needs a time zone, such as 2026-01-01T00:00:00Z, got 2026-01-01"
    ),
    f"{INSPECT} --category a --category-pattern (b)": (
        r"give only one of category, manifest and category_pattern, got"
    ),
    f"{INSPECT} --category-pattern b": r"category_pattern needs a group that names the category",
    f"{INSPECT} --category-pattern (b": r"category_pattern '\(b' is not a regular expression: ",
    f"{INSPECT} --manifest {{here}}/none.csv": r"manifest .*/none.csv: no such file or folder$",
    f"{INSPECT} --manifest {{here}}/columns.csv": (
        r"manifest .*/columns.csv must be Parquet or CSV with columns image and category: "
    ),
    f"{INSPECT} --config {{here}}/none.toml": (
        r"--config: there is no file .*/none.toml; check the path$"
    ),
    f"{INSPECT} --config {{here}}/unknown.toml": (
        r"--config: .*/unknown.toml sets colour, which no command has; there are: ablations, "
    ),
    f"{INSPECT} --config {{here}}/broken.toml": r"--config: .*/broken.toml is not TOML: ",
    f"{BY_HAND} ftp://host/folder": r"--archive: ftp://host/folder is neither a local path nor s3",
    "train --data {here}/nowhere --models m": r".*/nowhere: no such file or folder; check the path",
    "train --data {here}/empty --models m": (
        r"no images to learn from in .*/empty; expected DATA/CATEGORY/train/good/\* or "
        r"DATA/CATEGORY/\*$"
    ),
    "train --models m": r"--data is required$",
    f"{TRAIN} --preset huge": r".*--preset: .*(invalid choice|'paper', 'laptop' or 'tiny').*",
    f"{TRAIN} --eta 1.5": r"eta must be in \[0, 1\), got 1.5$",
    f"{TRAIN} --threshold-quantile 0": r"threshold_quantile must be in \(0, 1\], got 0.0$",
    f"{TRAIN} --kind pill=object": r"--kind: file://.*/archive has no pill; there are: ampoule, ",
    f"{TRAIN} --categories ampule,fabrik": (
        r"--categories: .*/archive has no ampule, fabrik; did you mean ampoule or fabric\?$"
    ),
    f"{TRAIN} --kind ampoule=soft": r".*soft.*",
    f"{TRAIN} --max-concurrent 0": r"max_concurrent must be at least 1, got 0$",
    f"{TRAIN} --only fit": r".*--only: .*(invalid choice|'calibrate').*",
    f"{TRAIN} --workers-per-category 0": r"workers_per_category must be at least 1, got 0$",
    f"{TRAIN} --preset tiny --workers-per-category 33": (
        r"workers_per_category must be at most 32: every worker needs at least one image per "
        r"batch; got 33$"
    ),
    f"{TRAIN} --gpus-per-category 2": (
        r"gpus_per_category must be at most one per worker, got 2 for 1; raise --workers-per"
    ),
    f"{TRAIN} --checkpoint-seconds -1": r"checkpoint_seconds must not be negative, got -1.0$",
    f"{TRAIN} --tensorboard s3://b/logs": r"--tensorboard must be a local folder, got s3://b/logs$",
    "bench train --data {here}/empty": r"no images to learn from in .*/empty; expected DATA/CATEG",
    "bench train --data {archive} --categories pill": (
        r"there are no images in .*/pill; check --categories$"
    ),
    "evaluate --data {here}/pills --models {models} --output o": (
        r"no category of .*/pills has both test images, such as DATA/CATEGORY/test, and a "
        r"detector in .*/models$"
    ),
    f"{EVALUATE} --verdicts {{here}}/nowhere": (
        r"could not be evaluated: fabric: no tables in .*/nowhere/verdicts/fabric; inspect the "
        r"category first; washer: no tables in "
    ),
    f"{EVALUATE} --categories pill": (
        r"could not be evaluated: pill: no detector for category pill in "
    ),
    "evaluate --data {archive} --output {here}/output": (
        r"--models is required, or --verdicts of a finished inspection$"
    ),
    "evaluate --data {archive} --output {here}/output --verdicts {archive} --baselines": (
        r"baselines and ablations need the detectors: give --models$"
    ),
    f"{EVALUATE} --ablations --categories fabric": (
        r"could not be evaluated: fabric: 0 of 0 held-out images of the fabric detector are not in "
        r".*/archive; give as --data the folder that it was trained on$"
    ),
    "demo --output {here}/full": r"--output .*/full is not empty; give a new folder$",
    "demo --num-train 3": r"--num-train: .*greater than or equal to 20.*'3'$",
}


@pytest.mark.parametrize("line", NOT_STARTED)
def test_a_mistake_is_said_in_one_line_and_nothing_is_started(
    line: str, place: dict[str, str], vqad: Vqad
) -> None:
    arguments = [each.format(**place) for each in line.split()]
    ended = vqad(*arguments)
    command = " ".join(arguments[: 2 if arguments[0] == "bench" else 1])
    assert_refused(ended, command, NOT_STARTED[line])
    assert not Path(place["here"], "output").exists()
    assert not Path(place["here"], "models").exists()


def assert_refused(ended: Ended, command: str, pattern: str) -> None:
    assert (ended.code, ended.out) == (2, ""), ended
    (said,) = ended.err.splitlines()
    assert said.startswith(f"vqad {command}: ")
    assert re.match(pattern, said.removeprefix(f"vqad {command}: ")), said


@pytest.fixture
def without_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no endpoint, no metadata service."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in clean_environment(tmp_path).items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def test_object_storage_without_credentials_is_refused_at_once(
    without_aws: None, place: dict[str, str], vqad: Vqad
) -> None:
    for command, option in (("inspect", "--archive"), ("train", "--data")):
        start_s = time.monotonic()
        others = ("--output", place["here"]) if command == "inspect" else ()
        ended = vqad(command, option, "s3://bucket/a", "--models", place["models"], *others)
        assert time.monotonic() - start_s < 15
        pattern = r"s3://bucket/a: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY$"
        assert_refused(ended, command, pattern)


def test_a_bucket_that_is_not_there_is_said_before_anything_is_started(
    finished: Finished, s3: object, tmp_path: Path, vqad: Vqad
) -> None:
    absent = "s3://absent-bucket/a"
    models = ("--models", finished.models)
    for line in (
        ("inspect", "--archive", finished.archive, *models, "--output", absent),
        ("train", "--data", finished.archive, "--models", absent),
    ):
        ended = vqad(*line)
        said = rf"{line[-2]} {absent}: no such bucket; check its name, or create it$"
        assert_refused(ended, line[0], said)


def test_an_endpoint_that_nobody_answers_is_named(
    without_aws: None, place: dict[str, str], vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, and not listening: nobody else answers here
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        paths = ("--models", place["models"], "--output", place["here"])
        ended = vqad("inspect", "--archive", "s3://bucket/a", *paths)
    pattern = rf"s3://bucket/a: the endpoint cannot be reached; it is {endpoint}; check AWS_"
    assert_refused(ended, "inspect", pattern)


def test_a_gpu_that_this_machine_does_not_have_is_refused_and_not_waited_for(
    finished: Finished, tmp_path: Path, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqad.on_ray import session

    assert session.is_private()
    monkeypatch.setattr(session, "num_gpus", lambda: 0.0)
    paths = ("--archive", finished.archive / "washer", "--models", finished.models)
    options = ("--category", "washer", "--output", tmp_path / "out", "--gpus-per-actor", 1)
    ended = vqad("inspect", *paths, *options)
    assert (ended.code, ended.out) == (2, "")
    last = ended.err.splitlines()[-1]
    expected = r"vqad inspect: \d+ detectors? would need [\d.]+ CPUs and \d+ GPUs?, and this mach"
    assert re.match(expected, last), last
    assert not (tmp_path / "out" / "verdicts").exists()


def test_more_rejects_than_allowed_end_with_exit_code_1_and_the_summary(
    finished: Finished, tmp_path: Path, vqad: Vqad
) -> None:
    paths = ("--archive", finished.archive / "fabric" / "test" / "odd", "--output", tmp_path)
    options = ("--models", finished.models, "--category", "fabric")
    ended = vqad("inspect", *paths, *options, "--max-reject-fraction", 0.1)
    num_rejects = sum(map(bool, finished.odd.values()))
    assert ended.code == 1
    assert ended.summary["reject"] == num_rejects
    said = f"{num_rejects} of {len(finished.odd)} images were rejected, more than"
    assert said in ended.err.splitlines()[-1]


def test_the_program_itself_says_it_likewise(tmp_path: Path) -> None:
    paths = ("--archive", tmp_path / "nowhere", "--models", tmp_path, "--output", tmp_path / "o")
    ended = start("inspect", *paths, home=tmp_path)
    assert_refused(ended, "inspect", r".*/nowhere: no such file or folder; check the path$")
