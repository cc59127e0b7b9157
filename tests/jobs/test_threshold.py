"""`vqad threshold`: its options, and its work on object storage."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.options import UsageError, parse
from jobs.threshold import ThresholdCommand
from tests.support import small_detectors
from tests.support.commands import Ended
from tests.support.inspection_by_hand import again, inspect, job_at
from vqad.detection import versions
from vqad.inspection.job import InspectJob

NEEDED = ("--models", "s3://m", "--category", "washer")


def parsed(*arguments: str) -> Any:
    return parse(ThresholdCommand, [*NEEDED, *arguments])


@pytest.mark.parametrize(("text", "rate"), [("0.5%", 0.005), ("5 %", 0.05), ("0.02", 0.02)])
def test_a_rate_is_a_percentage_or_a_share(text: str, rate: float) -> None:
    assert parsed("--false-alarms", text).false_alarms == pytest.approx(rate)


def test_nights_are_a_list_of_places() -> None:
    found = parsed("--value", "3", "--from", "s3://a/1,s3://a/2")
    assert getattr(found, "from") == ("s3://a/1", "s3://a/2")


def test_what_is_no_rate_is_refused_with_what_was_found() -> None:
    with pytest.raises(UsageError, match=re.escape("expected a percentage such as 0.5%, got 'x'")):
        parsed("--false-alarms", "x")


def test_a_number_of_images_without_a_night_ends_with_2(
    vqad: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = vqad("threshold", "--models", tmp_path, "--category", "washer", "--per-night", 20)
    assert ended.code == 2
    assert "--per-night needs --from" in ended.err


@pytest.mark.integration
def test_on_object_storage_rows_are_judged_again_and_the_version_is_in_force(
    vqad: Callable[..., Ended], bucket: str, tmp_path: Path
) -> None:
    small_detectors.draw(tmp_path / "archive", ("washer",))
    models, output = f"{bucket}/models", f"{bucket}/night"
    old = small_detectors.save_detector(models, "washer", str(tmp_path / "archive"))
    job: InspectJob = again(job_at(tmp_path), models=models, output=output)
    inspect(job)
    arguments = ("threshold", "--models", models, "--category", "washer", "--from", output)
    ended = vqad(*arguments, "--per-night", 2, "--apply", output, "--promote")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out.splitlines()[-1])
    assert (summary["applied"]["updated"], summary["in_force"]) == (8, True)
    assert versions.version_names(models, "washer") == [old, summary["version"]]
    again_ended = vqad(*arguments, "--per-night", 2, "--apply", output, "--promote")
    same = json.loads(again_ended.out.splitlines()[-1])
    assert (same["version"], same["applied"]["updated"]) == (summary["version"], 0)
