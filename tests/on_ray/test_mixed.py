"""A mixed archive on object storage: each image has one verdict, whatever is killed or fails."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from tests.campaigns import campaign
from tests.support import mixed_archive
from tests.support.faulty_store import Faults, faulty_store
from tests.support.finished_inspection import ON_RAY, inspect
from tests.support.s3_server import S3Server
from vqad.inspection import sink
from vqad.storage import files
from vqad.storage.uris import path_of

pytestmark = ON_RAY
NUM_IMAGES = 300


@pytest.fixture(scope="module")
def night(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> campaign.Night:
    return campaign.night("mixed", tmp_path_factory.mktemp("mixed"), NUM_IMAGES)


@pytest.fixture(scope="module")
def calm(night: campaign.Night, local_ray: None) -> str:
    """The output of an undisturbed run."""
    output = f"{night.home}/calm"
    summary = inspect(**night.places, output=output)
    assert summary["listed"] == summary["images"] == NUM_IMAGES
    return output


def test_everything_in_an_archive_gets_one_answer_with_its_reason(
    night: campaign.Night, calm: str
) -> None:
    found = campaign.check_complete(calm, night.archive.expected)
    bad = Counter(error for error in night.archive.expected.values() if error)
    assert {*(error for _, error, _ in mixed_archive.SPECIAL), "unknown_category"} == {*bad, ""}
    assert set(found) == {*bad, "normal", "defect"}
    assert {error: found[error] for error in bad} == bad


def test_no_key_is_in_what_a_run_leaves_nor_in_the_logs_of_ray(
    night: campaign.Night, calm: str, s3: S3Server
) -> None:
    logs = Path(ray._private.worker._global_node.get_session_dir_path(), "logs")
    texts = [path.read_bytes() for path in logs.rglob("*") if path.is_file()]
    assert texts
    rows = [campaign.table_of(calm, table) for table in ("verdicts", "maps")]
    texts += [str(rows).encode(), files.read_bytes(f"{calm}/run.json", max_bytes=2**20)]
    for key in (s3.access_key, s3.secret_key):
        assert not [text for text in texts if key.encode() in text]


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    give_up_s = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_a_run_that_is_killed_and_served_badly_ends_in_the_same_results(
    night: campaign.Night, calm: str, s3: S3Server
) -> None:
    output, rng, expected = f"{night.home}/rough", random.Random(1), dict(night.archive.expected)
    denied, lost = [uri for uri, error in expected.items() if not error and "#" not in uri][:2]
    expected |= {denied: "denied", lost: "missing"}
    faults = Faults(behind=s3.endpoint, share=0.05, seed=1)
    faults.denied, faults.lost = {f"/{path_of(denied)}"}, {f"/{path_of(lost)}"}
    with faulty_store(faults):
        first = campaign.start(s3, faults.endpoint, *night.line("rough"))
        wait_for(lambda: sink.parts(output, "verdicts"), first)
        assert campaign.kill(first, "driver and Ray", rng)
        said = first.communicate()
        assert 0 < len(campaign.table_of(output, "verdicts")) < NUM_IMAGES
        second = campaign.start(s3, faults.endpoint, *night.line("rough"))
        wait_for(lambda: campaign.victims(second.pid, "actor"), second)
        assert campaign.kill(second, "actor", rng)
        said += second.communicate()
    assert second.returncode == 0, said
    assert sum(faults.counts[kind] for kind in faults.counts if kind != "requests") > 2
    campaign.check_complete(output, expected)
    assert s3.secret_key not in str(said)
    # Images that the storage refused are fetched again.
    assert inspect(**night.places, output=output, redo="changed")["images"] == 2
    campaign.check_same(output, calm)
