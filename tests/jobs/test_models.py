"""`vqad models`: list, show, promote and roll back, as a person calls them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Ended
from tests.support.random_detectors import detector_of
from vqad.detector import Detector
from vqad.inspection import promotion
from vqad.on_ray import train
from vqad.training.job import TrainJob
from vqad.training.options import TrainOptions

Vqad = Callable[..., Ended]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def saved(models: Path) -> tuple[str, str]:
    """Two versions of washers, the older one in force."""
    older = detector_of().save(str(models), why="vqad train, run monday")
    return older, detector_of(seed=1).save(str(models), promote=False)


def test_versions_are_listed_with_the_one_in_force(
    models: Path, saved: tuple[str, str], vqad: Vqad
) -> None:
    detector_of(category="lid").save(str(models), promote=False)
    ended = vqad("models", "list", "--models", models)
    assert ended.code == 0, ended.err
    found = ended.summary["categories"]
    assert found["washer"] == {"in_force": saved[0], "versions": list(saved)}
    assert found["lid"]["in_force"] is None
    assert f"* {saved[0]}  plain" in ended.err
    assert f"  {saved[1]}  plain" in ended.err
    ended = vqad("models", "list", "--models", models, "--category", "lid")
    assert list(ended.summary["categories"]) == ["lid"]


def test_promote_and_rollback_change_one_file_and_are_shown_in_the_log(
    models: Path, saved: tuple[str, str], vqad: Vqad
) -> None:
    older, newer = saved
    of_washer = ("--models", models, "--category", "washer")
    before = _files(models)
    ended = vqad("models", "promote", *of_washer, "--version", newer, "--why", "w", "--who", "ann")
    assert ended.code == 0, ended.err
    assert ended.summary == {"category": "washer", "changed": True, "from": older, "to": newer}
    changed = {path.name for path in _files(models) - before}
    assert changed - {"current.json"} == {_latest_entry(models).name}
    again = vqad("models", "promote", *of_washer, "--version", newer)
    assert (again.code, again.summary["changed"]) == (0, False)
    ended = vqad("models", "rollback", *of_washer, "--who", "bob")
    assert ended.summary == {"category": "washer", "changed": True, "from": newer, "to": older}
    assert Detector.load(str(models), "washer").version == older
    shown = vqad("models", "show", *of_washer)
    assert (shown.summary["version"], shown.summary["in_force"]) == (older, True)
    assert (shown.summary["minimum_area_px"], shown.summary["minimum_area_mm2"]) == (4, None)
    steps = [(e["who"], e["action"], e["to"], e["why"]) for e in shown.summary["log"]]
    assert steps[1:] == [("ann", "promote", newer, "w"), ("bob", "rollback", older, "")]
    assert f"bob rollback, {newer} -> {older}" in shown.err
    other = vqad("models", "show", *of_washer, "--version", newer)
    assert (other.summary["in_force"], other.summary["threshold"]) == (False, 2.5)


def _files(models: Path) -> set[Path]:
    return {path for path in models.rglob("*") if path.is_file()}


def _latest_entry(models: Path) -> Path:
    return max((models / "washer" / "promotions").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("list --category wascher", "did you mean washer?"),
        ("show --category lid", "has no lid; there are: washer"),
        ("promote --category washer --version 2026-1", "washer has no version 2026-1"),
        ("rollback --category washer", "the log knows no version that was in force before"),
        ("show --category washer --version 2026-1", "2026-1/detector.json"),
    ],
)
@pytest.mark.usefixtures("saved")
def test_what_can_not_be_done_is_exit_code_2_and_says_what_would_do(
    arguments: str, said: str, models: Path, vqad: Vqad
) -> None:
    ended = vqad("models", *arguments.split(), "--models", models)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_version_with_a_reason_against_it_needs_force(
    models: Path, saved: tuple[str, str], vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "reasons_against", lambda *_, **__: ["it loses a.png"])
    asked = ("models", "promote", "--models", models, "--category", "washer", "--version", saved[1])
    ended = vqad(*asked)
    assert ended.code == 2
    assert "it loses a.png; give --force" in ended.err
    assert vqad(*asked, "--force").summary["changed"]


@pytest.mark.parametrize("promoted", [True, False])
def test_a_run_that_is_not_to_be_promoted_is_finished_when_its_version_is_saved(
    models: Path, promoted: bool
) -> None:
    detector = detector_of()
    record = detector.settings.found
    detector_of(seed=1).save(str(models))
    options = [TrainOptions(category="washer", preset="tiny")]
    job = TrainJob(data="d", models=str(models), options=options, run="r", promote=False)
    assert not train._is_finished(job, "washer", "f")
    finished = type(record)(**{**vars(record), "run": "r", "data_fingerprint": "f"})
    detector.with_settings(found=finished).save(str(models), promote=promoted)
    assert train._is_finished(job, "washer", "f")
    asked = TrainJob(**{**vars(job), "promote": True})
    assert train._is_finished(asked, "washer", "f") == promoted
    assert asked.run_name == job.run_name
    assert json.loads((models / "washer" / "current.json").read_text())["version"]
