"""Two workers on one category fit as well as one on the same budget.

A campaign, run by hand: `pytest -m slow tests/campaigns/test_sharing.py -s` prints what it found.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, pstdev

import pytest

from tests import drawn
from tests.campaigns.campaign import say
from tests.support.commands import Ended
from tests.support.finished_inspection import ON_RAY
from vqad.detector import Detector

pytestmark = [*ON_RAY, pytest.mark.slow]
SEEDS = range(3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing") / "data"
    drawn.draw_archive(folder, categories=["bottle"], num_train=60, num_good=0, num_defect=0)
    return folder


def test_two_workers_fit_as_well_as_one_on_the_same_budget(
    data: Path, tmp_path: Path, vqad: Callable[..., Ended], local_ray: None
) -> None:
    line = ("--data", data, "--preset", "tiny", "--categories", "bottle", "--max-concurrent", 1)
    line = (*line, "--form", "joined")  # this is about the networks
    found: dict[str, dict[int, list[float]]] = {"held_out_error": {}, "held_out_nats": {}}
    for num_workers in (1, 2):
        for seed in SEEDS:
            models = tmp_path / f"{num_workers}-{seed}"
            more = ("--models", models, "--workers-per-category", num_workers, "--seed", seed)
            assert vqad("train", *line, *more).code == 0
            settings = Detector.load(str(models), "bottle").settings
            assert settings.found.made_with["num_workers"] == num_workers
            for name, values in found.items():
                values.setdefault(num_workers, []).append(getattr(settings.found, name))
    for name, values in found.items():
        say(f"{name}: one worker {values[1]}, two {values[2]}, over seeds {list(SEEDS)}")
        # Another seed also holds out other images: what the seeds are apart is the noise.
        noise = max(pstdev(values[1]), 0.01 * mean(values[1]))
        assert mean(values[2]) <= mean(values[1]) + 2 * noise
