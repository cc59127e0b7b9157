"""How a night ends, beside its verdicts: limits, run.json and the message to the webhook."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.inspection_by_hand import home, inspect, job
from vqad.inspection import notify
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.on_ray.night import inspect_archive

__all__ = ["home", "job"]

URL = "https://hooks.example.com/key"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def send(url: str, content: dict[str, Any], say: Any) -> bool:
        assert url == URL
        say("warning: nobody listens")
        found.append(content)
        return False

    monkeypatch.setattr(notify, "send", send)
    return found


def test_a_night_with_nothing_to_do_is_notified_and_needs_no_ray(
    job: InspectJob, sent: list[dict[str, Any]]
) -> None:
    inspect(job)
    said: list[str] = []
    summary = inspect_archive(job, said.append, monitoring=Monitoring(notify=URL))
    (content,) = sent
    assert (content["exit_code"], content["summary"]["skipped"]) == (0, 16)
    assert content["summary"]["run"] == summary.run
    assert said[-1] == "warning: nobody listens"  # and the night ended as it would have
    record = json.loads(Path(job.output, "run.json").read_text())
    assert (record["command"], record["warnings"]) == ("inspect", [])
    assert Path(job.output, "metrics.prom").is_file()


def test_a_night_that_could_not_start_is_notified_with_its_error(
    job: InspectJob, tmp_path: Path, sent: list[dict[str, Any]]
) -> None:
    (tmp_path / "empty").mkdir()
    nowhere = InspectJob(archive=str(tmp_path / "empty"), models=job.models, output=job.output)
    with pytest.raises(ValueError, match="no images in"):
        inspect_archive(nowhere, lambda line: None, monitoring=Monitoring(notify=URL))
    (content,) = sent
    assert content["exit_code"] == 2
    assert content["error"].startswith("no images in")


def test_an_evaluation_is_no_night_and_is_not_compared(job: InspectJob) -> None:
    inspect(job)
    said: list[str] = []
    inspect_archive(job, said.append, command="evaluate")
    assert json.loads(Path(job.output, "run.json").read_text())["command"] == "evaluate"
    assert not [line for line in said if "nights" in line]
