"""`vqad threshold`: its options."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.options import UsageError, parse
from jobs.threshold import ThresholdCommand
from tests.support.commands import Ended

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
