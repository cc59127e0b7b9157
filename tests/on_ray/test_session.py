"""Joining or starting a Ray: what is said where there is none. Ray itself is not started here."""

import os
import signal
import stat
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
import ray

from vqad.on_ray import private_ray, session

SLOW = "The current node timed out during startup. This could happen because of anything."


class Starts:
    """A Ray that starts after so many failures."""

    def __init__(self, num_failures: int, error: Exception) -> None:
        self.num_failures, self.error, self.asked = num_failures, error, list[str]()

    def __call__(self, *, address: str, **_: object) -> None:
        self.asked.append(address)
        if len(self.asked) <= self.num_failures:
            raise self.error


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "_quieten", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return monkeypatch


def test_a_private_ray_that_was_too_slow_to_start_is_started_again(
    no_ray: pytest.MonkeyPatch,
) -> None:
    starts = Starts(2, Exception(SLOW))
    no_ray.setattr(ray, "init", starts)
    with session.connected():
        assert starts.asked == ["local"] * 3


def test_a_ray_that_never_starts_is_said_in_one_line(no_ray: pytest.MonkeyPatch) -> None:
    starts = Starts(9, Exception(SLOW))
    no_ray.setattr(ray, "init", starts)
    with pytest.raises(session.NoRayError) as caught, session.connected():
        pass
    assert str(caught.value) == (
        f"Ray could not be started: {SLOW}; try again when the machine is less busy"
    )
    assert len(starts.asked) == session.ATTEMPTS


def test_a_cluster_that_does_not_answer_is_named_with_the_variable(
    no_ray: pytest.MonkeyPatch,
) -> None:
    starts = Starts(9, ConnectionError("nobody there"))
    no_ray.setattr(ray, "init", starts)
    no_ray.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(
            session.NoRayError,
            match=r"^no Ray answers at 127.0.0.1:1: nobody there; check RAY_ADDRESS$",
        ),
        session.connected(),
    ):
        pass
    assert starts.asked == ["127.0.0.1:1"]


def test_a_private_ray_has_a_token_of_this_run_alone_whatever_the_environment_says(
    no_ray: pytest.MonkeyPatch,
) -> None:
    no_ray.setenv("RAY_AUTH_MODE", "disabled")
    no_ray.setenv("RAY_AUTH_TOKEN", "known")
    no_ray.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    no_ray.setattr(ray, "init", lambda **_: None)
    tokens = set()
    for _ in range(2):
        with session.connected():
            assert session.is_private()
            assert os.environ["RAY_AUTH_MODE"] == "token"
            assert "RAY_AUTH_TOKEN" not in os.environ
            path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            tokens.add(path.read_text())
        assert not path.parent.exists()
    assert {len(token) for token in tokens} == {64}
    assert len(tokens) == 2
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("disabled", "known")
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert not session.is_private()


def test_a_folder_with_a_name_too_long_for_sockets_is_passed_over_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert private_ray.short_folder() in ("/tmp", "/var/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "/")
    assert private_ray.short_folder() == "/"
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(session.NoRayError) as caught:
        private_ray.short_folder()
    assert str(caught.value) == (
        f"Ray needs a folder for its sockets with a name of at most 23 bytes: {long} has "
        f"{len(str(long))}, and /tmp cannot be written; set TMPDIR to a shorter one"
    )


def test_a_socket_of_ray_fits_in_the_longest_folder() -> None:
    folder = "f" * private_ray.LONGEST_FOLDER_BYTES
    name = f"{folder}/session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{2**22}/sockets/plasma_store"
    assert len(name) <= 103


@pytest.mark.parametrize("raised", [SystemExit(15), None])
def test_ray_does_not_keep_the_handler_of_sigterm_that_it_sets(
    no_ray: pytest.MonkeyPatch, raised: SystemExit | None
) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        os.write(2, b"a line of Ray's own\n")
        if raised:
            raise raised

    no_ray.setattr(ray, "init", init)
    try:
        with session.connected():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    # A signal that comes while Ray starts is handed on as well.
    assert got == [signal.SIGTERM] * (2 if raised else 1)


def test_what_ray_writes_while_it_starts_is_not_shown(
    no_ray: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    no_ray.setattr(ray, "init", lambda **_: os.write(2, b"logging.cc:303: Set ray log level\n"))
    with session.connected():
        os.write(2, b"ours\n")
    assert capfd.readouterr().err == "ours\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("nobody there", "nobody there"),
        ('Traceback:\n  File "a.py", line 1\nOSError: no space\n', "OSError: no space"),
        ("a\nOSError: b\n\nThe above exception was the direct cause of\nc", "OSError: b"),
        ("The node was marked dead, because\n\t(1) it is\n\t(2) it seems", "The node was mar"),
        ("", "Exception"),
    ],
)
def test_of_what_ray_says_one_line_is_the_reason(said: str, reason: str) -> None:
    assert session.reason(Exception(said)).startswith(reason)
