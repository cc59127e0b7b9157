"""What a night with a second detector takes, beside the nights of each of the two alone.

By hand, on a machine that does nothing else, in about ten minutes:
`pytest -m slow -s tests/campaigns/test_shadow_time.py`.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.campaigns.campaign import say
from tests.support.inspection_by_hand import again, decoded, inspect, job_at, rows
from vqad import synthetic
from vqad.benchmarks import inspection
from vqad.detection import versions
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.model.resample import ResampleOptions
from vqad.storage import output_layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CATEGORY, NUM_GOOD, NUM_DEFECT, SIZE_PX = "washer", 24, 24, 900
NUM_ROWS = 16  # of a unit
REPEATS = 3
MOST_OVER = 0.03  # of the sum: what two measurements of the same work may differ by, a guess


@pytest.fixture
def nights(tmp_path: Path) -> dict[str, InspectJob]:
    """A night by each of two detectors of the sizes of the preset laptop, and one by both."""
    synthetic.draw_archive(
        tmp_path / "archive",
        categories=(CATEGORY,),
        size_px=SIZE_PX,
        num_train=0,
        num_good=NUM_GOOD,
        num_defect=NUM_DEFECT,
    )
    detector = inspection.random_detector("laptop")
    size_px = detector.settings.vqvae.image_size_px
    pictures = torch.rand(16, 3, size_px, size_px)
    detector = inspection.with_some_changes(detector, inspection.encode(detector, pictures, 16))
    detector = detector.with_settings(category=CATEGORY)
    second = detector.with_settings(resample=ResampleOptions(eta=1e-4))
    models = str(tmp_path / "models")
    detector.save(models)
    version = second.save(models, promote=False)
    shutil.copytree(models, models + "-second")
    versions.promote(models + "-second", CATEGORY, version, who="a test", why="")
    one = job_at(tmp_path)
    return {
        "one": one,
        "other": again(one, models=models + "-second"),
        "both": again(one, shadow=(f"{CATEGORY}={version}",)),
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def night_of(job: InspectJob, number: int, name: str) -> float:
    """CPU time of a night with an output of its own."""
    anew = again(job, output=f"{job.output}-{name}-{number}")
    seconds = cpu_seconds(lambda: inspect(anew, num_rows=NUM_ROWS))
    assert len(rows(anew)) == NUM_GOOD + NUM_DEFECT
    beside = again(anew, output=output_layout.shadow(anew.output), shadow=())
    assert len(rows(beside)) == (NUM_GOOD + NUM_DEFECT if anew.shadow else 0)
    return seconds


def decoding_of(job: InspectJob) -> float:
    """CPU time of reading and decoding all images."""
    plan = make_plan(job)
    return cpu_seconds(lambda: sum(len(unit) for unit in decoded(job, plan, NUM_ROWS)))


def test_two_detectors_take_at_most_both_their_times_and_one_decoding(
    nights: dict[str, InspectJob],
) -> None:
    taken: dict[str, list[float]] = {name: [] for name in [*nights, "decoding"]}
    for number in range(REPEATS):  # in turns, so that a slow minute is of all of them
        for name, job in nights.items():
            taken[name].append(night_of(job, number, name))
        taken["decoding"].append(decoding_of(nights["one"]))
    one, other, both, decoding = (float(np.median(each)) for each in taken.values())
    say(
        f"CPU time for {NUM_GOOD + NUM_DEFECT} images: {one:.1f} s and {other:.1f} s by one "
        f"detector each, {both:.1f} s by both in one night; decoding alone {decoding:.1f} s"
    )
    most = one + other - decoding
    say(f"{both / most:.3f} of both detectors' times and one decoding")
    assert both <= most * (1 + MOST_OVER)
