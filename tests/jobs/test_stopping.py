"""SIGTERM and Ctrl-C: one line, the documented exit code, the lease free, nothing of Ray left.

The same two runs show what a private Ray is like meanwhile: its sockets, its token, its silence.
"""

import json
import os
import re
import signal
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from jobs import command, stopping
from jobs.options import Options
from tests.support import small_detectors
from tests.support.processes import descendants, title
from tests.support.running import Running, listening, running
from vqad import synthetic

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
STOPPED = "stopped; the same command goes on where it ended"


def folder_of_ray(run: Running) -> Path:
    """The temporary folder of the command's private Ray."""
    (folder,) = {
        found[1]
        for pid in descendants(run.process.pid)
        if (found := re.search(r"--raylet_socket_name=(.*?)/session_", title(pid)))
    }
    return Path(folder).parent


@pytest.mark.integration
def test_an_inspection_stopped_by_sigterm_leaves_a_free_output_and_nothing_of_ray(
    tmp_path: Path,
) -> None:
    small_detectors.draw(tmp_path / "archive", ("fabric",))
    small_detectors.save_detector(str(tmp_path / "models"), "fabric", str(tmp_path / "archive"))
    picture = tmp_path / "archive" / "fabric" / "test" / "good" / "000.png"
    for number in range(4000):
        os.link(picture, picture.with_name(f"more-{number}.png"))
    # Longer than the name of a socket may be, and a mode that leaves Ray open to everybody.
    long = tmp_path / ("long" * 25)
    long.mkdir()
    environment = {"TMPDIR": str(long), "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "known"}
    output = tmp_path / "output"
    places = ("--archive", tmp_path / "archive", "--models", tmp_path / "models")
    with running(
        "inspect", *places, "--output", output, home=tmp_path, environment=environment
    ) as run:
        run.wait_for(lambda: any((output / "verdicts").rglob("part-*.parquet")))
        folder = folder_of_ray(run)
        token = folder / "token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        below = descendants(run.process.pid)
        for pid in below:
            if "raylet" in title(pid):
                variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
                assert "RAY_AUTH_MODE=token" in variables
                assert f"RAY_AUTH_TOKEN_PATH={token}" in variables
                assert not any(each.startswith("RAY_AUTH_TOKEN=") for each in variables)
        found = listening([run.process.pid, *below])
        assert found
        assert set(found) <= LOOPBACK, {each: title(pid) for each, pid in found.items()}
        ended, seconds, left = run.stop(signal.SIGTERM)
    assert ended.code == 143, ended.err
    assert seconds < 10
    assert left == []
    assert not folder.exists()
    first, *progress, last = ended.err.splitlines()
    assert first == "4008 images to inspect, 0 have their verdict already"
    assert all(re.match(r"\d+ of 4008 images, ", line) for line in progress), ended.err
    assert last == f"vqad inspect: {STOPPED}"
    assert ended.out == ""
    assert json.loads((output / "lease.json").read_text())["released"] is True
    assert not (output / "run.json").exists()


@pytest.mark.integration
def test_a_training_stopped_by_ctrl_c_ends_in_one_line_and_leaves_nothing_of_ray(
    tmp_path: Path,
) -> None:
    synthetic.draw_archive(
        tmp_path / "data", categories=["washer"], num_train=24, num_good=0, num_defect=0
    )
    line = ("train", "--data", tmp_path / "data", "--models", tmp_path / "models")
    kind = ("--preset", "tiny", "--kind", "washer=rotatable_object")
    with running(*line, *kind, home=tmp_path) as run:
        run.wait_for(lambda: "left out" in run.err.read_text())
        folder = folder_of_ray(run)
        found = listening([run.process.pid, *descendants(run.process.pid)])
        assert set(found) <= LOOPBACK, {each: title(pid) for each, pid in found.items()}
        ended, seconds, left = run.stop(signal.SIGINT)
    assert ended.code == 130, ended.err
    assert seconds < 10
    assert left == []
    assert not folder.exists()
    *others, last = ended.err.splitlines()
    assert all(each.startswith("washer: ") for each in others), ended.err
    assert last == f"vqad train: {STOPPED}"
    assert ended.out == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_command_clean_up_and_becomes_its_exit_code(
    number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    cleaned = []

    def work(_: Options) -> tuple[dict[str, object], int]:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)  # a second one is ignored meanwhile
            cleaned.append(True)
        return {}, 0

    before = [signal.getsignal(each) for each in stopping.SIGNALS]
    assert command.run("inspect", Options, [], work) == code
    assert cleaned == [True]
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", f"vqad inspect: {STOPPED}\n")


def test_what_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(stopping, "WITHIN_S", 0.01)
    monkeypatch.setattr(os, "_exit", end)
    said = []

    def hang() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            assert ended.wait(10)

    with pytest.raises(stopping.Stopped), stopping.signals_stop(lambda: said.append(True)):
        hang()
    assert (codes, said) == ([143], [True])


def test_an_error_nobody_expected_is_one_line_with_a_file_of_its_traceback(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def work(_: Options) -> tuple[dict[str, object], int]:
        raise KeyError("s3://KEY:HUSH@bucket")

    assert command.run("bench train", Options, [], work) == 1
    captured = capfd.readouterr()
    (said,) = captured.err.splitlines()
    assert captured.out == ""
    found = re.fullmatch(
        r"vqad bench train: unexpected KeyError: 's3://\*\*\*@bucket'; traceback in "
        r"(\S+/vqad-bench-train-\w+\.txt); please report it",
        said,
    )
    assert found, said
    written = Path(found[1])
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    text = written.read_text()
    assert text.startswith("Traceback (most recent call last):\n")
    assert "HUSH" not in text
