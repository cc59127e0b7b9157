"""Ten thousand changed files: each is one row or one message, soon and in little memory.

A campaign, by hand, on a machine that does nothing else; it prints what it found:
`pytest -m slow -s tests/campaigns/test_fuzz.py`. The inputs are the same at every run.
"""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.campaigns.campaign import say
from tests.support.fuzzed_readers import READERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
NUM_INPUTS = -(-10_000 // len(READERS))
LONGEST_S = 20
MOST_BYTES = 2 * 2**30  # a picture of the most pixels that are allowed takes about half of it


def results(reader: str) -> list[dict[str, Any]]:
    """What came of each input; a process that was ended by one goes on after it."""
    found: list[dict[str, Any]] = []
    while len(found) < NUM_INPUTS:
        line = (sys.executable, "-m", "tests.campaigns.fuzz_process", reader)
        ended = subprocess.run(
            [*line, str(len(found)), str(NUM_INPUTS)], capture_output=True, text=True, check=False
        )
        found += map(json.loads, ended.stdout.splitlines())
        if ended.returncode:
            error = f"exit code {ended.returncode}\n{ended.stderr[-3000:]}"
            number, outcome = len(found), "ended the process"
            found.append({"number": number, "outcome": outcome, "error": error})
    return found


@pytest.mark.parametrize("reader", READERS)
def test_changed_bytes_are_one_row_or_one_message(reader: str) -> None:
    found = results(reader)
    slowest = max(found, key=lambda each: each.get("seconds", 0.0))
    peaks = [each["peak_bytes"] // 2**20 for each in found if "peak_bytes" in each]  # MiB
    counts = dict(Counter(each["outcome"] for each in found).most_common())
    say(f"{reader}: {len(found)} inputs, {counts}")
    say(
        f"slowest {slowest['seconds']:.1f} s (input {slowest['number']}); "
        f"memory {peaks[0]} MiB after the first input, {max(peaks)} MiB at most"
    )
    assert not [each for each in found if each["error"]]
    assert slowest["seconds"] < LONGEST_S
    assert max(peaks) < MOST_BYTES // 2**20
