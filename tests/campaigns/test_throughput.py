"""Two categories at once on two cores, against one alone with its best number of threads.

A campaign, run by hand on a machine that does nothing else:
`pytest -m slow tests/campaigns/test_throughput.py -s` prints what it found.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.commands import clean_environment

pytestmark = [pytest.mark.integration, pytest.mark.slow]
BENCH = ("bench", "train", "--preset", "laptop", "--num-steps", "10")


def summed_rates(num_at_once: int, num_threads: int, home: Path) -> Counter[str]:
    """Images a second of each stage, over all that train side by side."""
    command = [sys.executable, "-m", "jobs", *BENCH, "--num-threads", str(num_threads)]
    running = [
        subprocess.Popen(
            command, env=clean_environment(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(num_at_once)
    ]
    told = [json.loads(each.communicate()[0]) for each in running]
    assert all(each["num_threads"] == num_threads for each in told)
    return sum((Counter(each["images_per_s"]) for each in told), Counter())


def test_two_categories_at_once_do_nine_tenths_of_one_with_its_best_threads(
    tmp_path: Path,
) -> None:
    sys.stderr.write(f"load before: {os.getloadavg()}\n")
    alone = [summed_rates(1, num_threads, tmp_path) for num_threads in (1, 2)]
    both = summed_rates(2, 1, tmp_path)
    for name, rates in (("alone, 1 thread", alone[0]), ("alone, 2", alone[1]), ("two", both)):
        sys.stderr.write(f"{name}: {dict(rates)}\n")
    for stage in ("vqvae", "prior"):
        assert both[stage] >= 0.9 * max(each[stage] for each in alone), stage
