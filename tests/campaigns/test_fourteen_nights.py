"""Two weeks of `vqad inspect` on Ray, in folders by date as cluster/nightly.yaml writes them."""

import html
import json
from pathlib import Path

import pytest

from tests.support import fourteen_nights
from tests.support.fourteen_nights import CATEGORY, NUM_NIGHTS, UNUSUAL
from vqad.on_ray import session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::Warning:ray"),
]


def test_the_unusual_nights_are_warned_of_on_their_own_page(tmp_path: Path) -> None:
    from jobs import inspect_archive

    fourteen_nights.save_detector(tmp_path)
    warned = {}
    with session.connected():
        for number in range(1, NUM_NIGHTS + 1):
            fourteen_nights.draw(tmp_path, number)
            job = fourteen_nights.job_of(tmp_path, number)
            places = {name: getattr(job, name) for name in ("archive", "models", "output", "maps")}
            command = inspect_archive.InspectCommand(**places, max_reject_fraction=0.0)
            assert inspect_archive.work(command)[1] == 0
            record = json.loads(Path(job.output, "run.json").read_text())
            assert record["categories"].keys() == {CATEGORY}
            page = html.unescape(Path(job.output, "report", "index.html").read_text())
            for each in record["warnings"]:
                assert each["message"] in page
            if record["warnings"]:
                warned[number] = [each["code"] for each in record["warnings"]]
    assert tuple(warned) == UNUSUAL, warned
