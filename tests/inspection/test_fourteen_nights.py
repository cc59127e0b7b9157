"""Two weeks in folders by date: the three unusual nights have warnings, and no other one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import fourteen_nights
from tests.support.fourteen_nights import DEFOCUSED, DIM, MIXED, NUM_IMAGES, NUM_NIGHTS, UNUSUAL
from tests.support.inspection_by_hand import decoded, inspector_of, make_plan
from vqad.inspection import comparison, run_report, stages
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.inspection.summary import InspectSummary

pytestmark = pytest.mark.integration  # without Ray and server, but it draws and inspects 840 images


def inspect(job: InspectJob, day: str) -> dict[str, Any]:
    """A night without Ray; returns its run.json."""
    plan = make_plan(job)
    inspector = inspector_of(job, plan)
    summary = InspectSummary(run=f"{day.replace('-', '')}T013000Z-0", versions=plan.versions)
    for unit in decoded(job, plan, NUM_IMAGES):
        written = stages.write(
            inspector.inspect(unit), output=job.output, version=plan.ledger.version
        )
        summary.add(written, num_most_severe=0)
    statistics = {name: each.record() for name, each in summary.statistics.items()}
    summary.comparison = comparison.of_night(
        job, Monitoring(), summary.run, statistics, summary.versions
    )
    run_report.write_run(job, summary)
    found: dict[str, Any] = json.loads(Path(job.output, "run.json").read_text())
    return found


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    home = tmp_path_factory.mktemp("fourteen")
    fourteen_nights.save_detector(home)
    found = []
    for number in range(1, NUM_NIGHTS + 1):
        fourteen_nights.draw(home, number)
        job = fourteen_nights.job_of(home, number)
        found.append(inspect(job, fourteen_nights.dated(number)))
    return found


def codes(night: dict[str, Any]) -> set[str]:
    return {each["code"] for each in night["warnings"]}


def test_exactly_the_unusual_nights_have_warnings(nights: list[dict[str, Any]]) -> None:
    warned = {number: codes(night) for number, night in enumerate(nights, start=1) if codes(night)}
    assert tuple(warned) == UNUSUAL, warned
    assert "brightness" in warned[DIM]
    assert "sharpness" in warned[DEFOCUSED]
    assert any(code.endswith(("_range", "_distance", "_share")) for code in warned[MIXED])


def test_from_the_fourth_night_on_nothing_is_left_uncompared(nights: list[dict[str, Any]]) -> None:
    assert [bool(night["not_compared"]) for night in nights] == [True] * 3 + [False] * 11
    assert [len(night["compared_with_runs"]) for night in nights] == [*range(7), *[7] * 7]
