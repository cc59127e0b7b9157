"""What comes back from a job server, in whatever pieces and however it ends."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.credentials import SharedCredentialProvider
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs import command, submit
from tests.support.finished_inspection import ON_RAY
from vqad.on_ray import s3_keys, submission

pytestmark = ON_RAY
LOG = 'one\n{"listed": 1}\n\ntwo {"not": "alone"}\n3\nlast'


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_log_in_pieces_over_broken_connections_is_said_once_line_by_line(size: int) -> None:
    said: list[str] = []
    log = submission._Log(said.append)
    for broken_after in (11, 0, 30, len(LOG)):
        log.rewind()
        for at in range(0, broken_after, size):
            log.add(LOG[at : min(at + size, broken_after)])
    log.finish()
    assert said == ["one", "", 'two {"not": "alone"}', "3", "last"]
    assert log.summary == {"listed": 1}


@pytest.mark.parametrize(
    ("status", "exit_code", "message", "code", "reason"),
    [
        ("SUCCEEDED", 0, "", 0, ""),
        ("FAILED", 1, "its log", 1, ""),
        ("FAILED", 2, "its log", 2, ""),
        ("FAILED", -9, "", None, "its command ended with exit code -9"),
        ("FAILED", 137, "", None, "its command ended with exit code 137"),
        ("FAILED", 143, "", None, "it was stopped"),
        ("FAILED", None, "Traceback\n\nOSError: no space\n", None, "OSError: no space"),
        ("FAILED", None, "", None, "the job server gives no reason"),
        ("STOPPED", None, "", None, "it was stopped"),
        ("STOPPED", 0, "", None, "it was stopped"),
    ],
)
def test_the_end_of_a_job_is_an_exit_code_or_one_line(
    status: str, exit_code: int | None, message: str, code: int | None, reason: str
) -> None:
    details = SimpleNamespace(status=JobStatus(status), driver_exit_code=exit_code, message=message)
    found = submission._ended(details, submission._Log(lambda line: None))
    assert (found.code, found.reason) == (code, reason)


def test_a_key_that_would_break_the_file_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^AWS_ACCESS_KEY_ID contains characters that no key"):
        s3_keys.write(tmp_path, {"AWS_ACCESS_KEY_ID": "a\n[other]"})
    assert not list(tmp_path.iterdir())


def test_the_file_holds_the_keys_and_the_variables_only_say_where_it_is(tmp_path: Path) -> None:
    given = {"AWS_ACCESS_KEY_ID": "id=1%s", "AWS_SECRET_ACCESS_KEY": "a/b+c #;"}
    needed = s3_keys.write(tmp_path, given)
    assert "id=1%s" not in str(needed)
    found = SharedCredentialProvider(str(tmp_path / s3_keys.FILE), "default").load()
    assert (found.access_key, found.secret_key) == ("id=1%s", "a/b+c #;")


class Server(JobSubmissionClient):
    """A job server that breaks off the log as told, and answers or not."""

    def __init__(self, pieces: list[str], answers: list[str | None]) -> None:
        self.pieces, self.answers = pieces, answers

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        yield self.pieces.pop(0)
        if self.pieces:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, submission_id: str) -> SimpleNamespace:
        answer = self.answers.pop(0) if self.answers else None
        if answer is None:
            raise ConnectionError("refused")
        return SimpleNamespace(status=JobStatus(answer), driver_exit_code=0, message="")


def test_a_job_is_followed_to_its_end_over_broken_connections_and_silent_heads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "PAUSE_S", 0)
    said: list[str] = []
    server = Server(["one\ntw", "one\ntwo\n", 'one\ntwo\n{"images": 2}\n'], [None, "RUNNING"])
    server.answers.append("SUCCEEDED")
    found = submission.follow(server, "job", said.append)
    assert said == ["one", "two"]
    assert (found.code, found.summary) == (0, {"images": 2})


def test_a_head_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "PAUSE_S", 0)
    monkeypatch.setattr(submission, "GIVE_UP_AFTER_S", 0)
    with pytest.raises(submission.LostError, match=r"^its job server no longer answers$"):
        submission.follow(Server(["one\n"], []), "job", lambda line: None)


def test_ctrl_c_while_following_says_that_the_job_goes_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(submission, "follow", interrupted)
    line = ["--archive", "s3://b/a", "--models", "s3://b/m", "--output", "s3://b/o"]
    code = command.run(
        "submit inspect", submit.SubmitInspect, line, lambda _: submit._followed(None, "vqad-1")
    )
    captured = capfd.readouterr()
    assert (code, captured.out) == (130, "")
    assert captured.err == (
        "vqad submit inspect: stopped; a job that was submitted goes on; only its log is no longer "
        "followed\n"
    )
