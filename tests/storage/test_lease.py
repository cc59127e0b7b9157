"""One run at a time on one output, whoever dies, stalls or comes late."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vqad.storage import conditional_writes, lease
from vqad.storage.errors import ArchiveError
from vqad.storage.lease import InUseError, LeaseLostError, held
from vqad.storage.uris import join


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.integration)])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/out"
    return str(tmp_path / "out")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives of one second, so that a test can wait for their end."""
    monkeypatch.setattr(lease, "LIFE_S", 1.0)
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.2)
    monkeypatch.setattr(lease, "LOOKED_AT_EVERY_S", 0.1)


def stored(output: str) -> dict:
    found = conditional_writes.read(join(output, "lease.json"))
    assert found is not None
    return json.loads(found[0])


def elsewhere(output: str, **changes: object) -> None:
    """Let a process of another machine hold the output from now on."""
    uri = join(output, "lease.json")
    content = {"holder": "other", "run": "theirs", "host": "far", "pid": 7, "system": "far"}
    found = conditional_writes.read(uri)
    data = json.dumps({**content, "released": False, **changes}).encode()
    assert conditional_writes.write(uri, data, tag=found and found[1])


def test_what_is_released_can_be_held_again_at_once(output: str) -> None:
    for run in ("first", "second"):
        start_s = time.monotonic()
        with held(output, run) as mine:
            mine.check()
            lease.confirm(output, mine.holder)
            assert stored(output)["run"] == run
        assert time.monotonic() - start_s < 5
    assert stored(output)["released"] is True


def test_a_second_run_waits_and_is_refused_naming_the_first(output: str, short: None) -> None:
    with held(output, "first") as mine:
        start_s = time.monotonic()
        with pytest.raises(InUseError, match=r"/out is in use by run first on .+, process \d+; "):
            lease._acquired(output, "second")
        assert 1 <= time.monotonic() - start_s < 4
        mine.check()


def test_a_second_run_goes_on_when_the_first_ends_in_time(output: str, short: None) -> None:
    with ThreadPoolExecutor(1) as pool:
        with held(output, "first"):
            second = pool.submit(lease._acquired, output, "second")
            time.sleep(0.3)
            assert not second.done()
        second.result().release()
    assert stored(output)["run"] == "second"


def test_of_many_that_come_at_once_one_holds_it(output: str, short: None) -> None:
    def attempt(run: int) -> lease.Lease | None:
        try:
            return lease._acquired(output, str(run))
        except InUseError:
            return None

    with ThreadPoolExecutor(6) as pool:
        found = [each for each in pool.map(attempt, range(6)) if each]
    assert len(found) == 1
    found[0].check()
    found[0].release()


def test_a_dead_process_of_this_host_is_taken_over_at_once(output: str) -> None:
    code = (
        "import sys, time; from vqad.storage import lease\n"
        "lease._acquired(sys.argv[1], 'dead'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, output], stdout=subprocess.PIPE) as dead:
        assert dead.stdout is not None
        assert dead.stdout.readline() == b"held\n"
        dead.kill()
    start_s = time.monotonic()
    with held(output, "next"):
        assert time.monotonic() - start_s < 5


def test_a_holder_elsewhere_that_renews_nothing_is_waited_for_and_taken_over(
    output: str, short: None
) -> None:
    elsewhere(output)
    start_s = time.monotonic()
    with held(output, "next"):
        assert time.monotonic() - start_s >= 1
        assert stored(output)["run"] == "next"


def test_a_lease_that_was_half_written_is_taken_over(tmp_path: Path, short: None) -> None:
    (tmp_path / "lease.json").write_text('{"holder": "ab')
    with held(str(tmp_path), "next"):
        assert stored(str(tmp_path))["run"] == "next"


def test_who_was_taken_over_learns_it_and_leaves_the_other_alone(output: str, short: None) -> None:
    with held(output, "slow") as mine:
        elsewhere(output)
        time.sleep(0.5)
        with pytest.raises(LeaseLostError, match="run theirs on far, process 7 has taken it over"):
            mine.check()
        with pytest.raises(LeaseLostError, match="run theirs on far, process 7 has it"):
            lease.confirm(output, mine.holder)
    assert stored(output)["holder"] == "other"
    assert stored(output)["released"] is False


def test_who_cannot_renew_in_time_has_lost_it(
    output: str, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> bool:
        raise ArchiveError("gone")

    with held(output, "cut off") as mine:
        monkeypatch.setattr(conditional_writes, "write", unreachable)
        mine.check()
        time.sleep(1.1)
        with pytest.raises(LeaseLostError, match="could not be renewed for 1 s"):
            mine.check()


def test_a_conditional_write_wants_the_content_as_it_was_read(output: str) -> None:
    uri = join(output, "x")
    assert conditional_writes.read(uri) is None
    assert conditional_writes.write(uri, b"one", tag=None)
    assert not conditional_writes.write(uri, b"other", tag=None)
    data, tag = conditional_writes.read(uri) or (b"", "")
    assert data == b"one"
    assert conditional_writes.write(uri, b"2", tag=tag)
    assert not conditional_writes.write(uri, b"three", tag=tag)
    assert (conditional_writes.read(uri) or (b"", ""))[0] == b"2"


def test_a_renewal_that_was_done_but_seemed_to_fail_loses_nothing(
    output: str, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = conditional_writes.write, []

    def deaf(uri: str, data: bytes, *, tag: str | None) -> bool:
        written = write(uri, data, tag=tag)
        if not failures:
            failures.append(uri)
            raise ArchiveError("the answer was lost")
        return written

    with held(output, "ours") as mine:
        monkeypatch.setattr(conditional_writes, "write", deaf)
        time.sleep(1.5)
        mine.check()
        assert failures
    assert stored(output)["released"] is True
