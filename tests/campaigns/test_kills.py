"""SIGKILL of the driver in every stage, on both kinds of storage: what has to be done again.

A campaign, run by hand: `pytest -m slow tests/campaigns/test_kills.py -s` prints what it measured.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.campaigns.campaign import say
from tests.support.finished_inspection import ON_RAY
from tests.support.s3_server import S3Server
from tests.support.training_runs import Night, night
from vqad import synthetic
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector

pytestmark = [*ON_RAY, pytest.mark.slow, pytest.mark.timeout(1800)]
SECONDS = 2.0  # between checkpoints
# Several intervals of each stage on an idle machine, too.
STEPS = {"NIGHT_STEPS": "600"}
# A line is read up to a second behind what it tells of.
SLACK_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Data, where the detectors go, and how clients find the storage."""

    data: Path
    models: str
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def night(self, models: str):  # type: ignore[no-untyped-def]
        """Train the washer."""
        line = ("--data", self.data, "--models", f"{self.models}/{models}")
        # The search for eta makes calibration long enough to be killed in.
        more = ("--kind=washer=rotatable_object", "--checkpoint-seconds", SECONDS, "--eta=auto")
        return night(*line, *more, home=self.home, **STEPS, **self.environment)

    def found(self, models: str) -> FitRecord:
        """The detector's record of its fit."""
        return Detector.load(f"{self.models}/{models}", "washer").settings.found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills") / "data"
    synthetic.draw_archive(
        folder, categories=["washer"], size_px=64, num_train=60, num_good=0, num_defect=0
    )
    return folder


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        yield Place(data=data, models=str(tmp_path), home=tmp_path)
        return
    s3: S3Server = request.getfixturevalue("s3")
    uri = request.getfixturevalue("bucket")
    yield Place(data=data, models=uri, home=tmp_path, environment=s3.environment)


def time_of(running: Night, pattern: str) -> float:
    """When a line was read, in seconds of the monotonic clock."""
    (at,) = [at for at, line in enumerate(running.lines) if re.search(pattern, line)]
    return running.times_s[at]


def lost_s(killed: Night, killed_s: float, resumed: Night) -> float:
    """Seconds between the state that is gone on from and the kill."""
    if any("has its detector" in line for line in resumed.lines):
        return 0.0  # the worker outlived its driver to the end
    (line,) = [line for line in resumed.lines if "resumes from" in line]
    found = re.search(r"resumes from (\w+) step (\d+) of", line)
    assert found
    shown = rf"washer: {found[1]} step {found[2]} of"
    # Kept, and not yet told of when the driver was killed: nothing is gone.
    is_shown = any(re.search(shown, line) for line in killed.lines)
    return max(0.0, killed_s - time_of(killed, shown)) if is_shown else 0.0


@pytest.mark.parametrize("how", [Night.kill, Night.cut_power], ids=["driver", "driver and Ray"])
def test_a_driver_killed_in_any_stage_loses_two_intervals_at_most(
    place: Place, how: Callable[[Night], None]
) -> None:
    with place.night("undisturbed") as running:
        assert running.end().code == 0
    theirs = place.found("undisturbed")
    for stage, line in {
        "vqvae": "washer: vqvae step 300 of",
        "prior": "washer: prior step 300 of",
        "calibration": "washer: calibrating",
    }.items():
        with place.night(stage) as killed:
            killed.read_until(line)
            how(killed)
        killed_s = time_of(killed, line)
        with place.night(stage) as resumed:
            ended = resumed.end()
        assert ended.code == 0, ended.err
        lost = lost_s(killed, killed_s, resumed)
        ours = place.found(stage)
        say(f"{place.models[:5]} {how.__name__} in {stage}: {lost:.1f} s lost of {SECONDS} s")
        for name in ("held_out_error", "held_out_nats"):
            one, other = getattr(ours, name), getattr(theirs, name)
            say(f"{name} {one:.5f}, undisturbed {other:.5f}")
            assert one == pytest.approx(other, rel=0.02)
        assert lost <= 2 * SECONDS + SLACK_S
        assert ours.steps == theirs.steps


def test_a_killed_worker_goes_on_without_a_rerun(place: Place) -> None:
    with place.night("healed") as running:
        for stage in ("vqvae", "prior"):
            running.read_until(f"washer: {stage} step 300 of")
            running.kill_worker()
            line = running.read_until("washer: resumes from")
            say(f"{place.models[:5]}: killed behind {stage} step 300, {line}")
        ended = running.end()
    assert ended.code == 0, ended.err
    assert ended.summary["trained"] == ["washer"]
    assert set(place.found("healed").steps.values()) == {int(STEPS["NIGHT_STEPS"])}
