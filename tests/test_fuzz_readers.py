"""Changed bytes never end a run. The campaign `tests/campaigns/test_fuzz.py` tries many more."""

from pathlib import Path

import pytest

from tests.support.fuzzed_readers import READERS, try_one

NUM_INPUTS = 25  # of each reader


@pytest.mark.parametrize("reader", READERS)
def test_changed_bytes_are_one_row_or_one_message(reader: str, tmp_path: Path) -> None:
    outcomes = {try_one(reader, number, tmp_path) for number in range(NUM_INPUTS)}
    assert outcomes - {"read"}  # some are refused, for one reason or another
