"""What comes back from a job server, in whatever pieces and however it ends."""

from types import SimpleNamespace

import pytest

from tests.on_ray.conftest import ON_RAY

pytestmark = ON_RAY
LOG = 'one\n{"listed": 1}\n\ntwo {"not": "alone"}\n3\nlast'


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_log_in_pieces_over_broken_connections_is_said_once_line_by_line(size: int) -> None:
    from vqad.on_ray.submission import _Log

    said: list[str] = []
    log = _Log(said.append)
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
        ("FAILED", -9, "", None, "its command was ended with code -9"),
        ("FAILED", 137, "", None, "its command was ended with code 137"),
        ("FAILED", None, "Traceback\n\nOSError: no space\n", None, "OSError: no space"),
        ("FAILED", None, "", None, "nothing is known of its end"),
        ("STOPPED", None, "", None, "it was stopped"),
        ("STOPPED", 0, "", None, "it was stopped"),
    ],
)
def test_the_end_of_a_job_is_told_in_its_code_or_in_one_line(
    status: str, exit_code: int | None, message: str, code: int | None, reason: str
) -> None:
    from ray.job_submission import JobStatus

    from vqad.on_ray.submission import _ended, _Log

    details = SimpleNamespace(status=JobStatus(status), driver_exit_code=exit_code, message=message)
    found = _ended(details, _Log(lambda line: None))
    assert (found.code, found.reason) == (code, reason)


def test_a_key_that_would_break_the_file_is_refused_without_being_shown(tmp_path) -> None:
    from vqad.on_ray import keys

    with pytest.raises(ValueError, match=r"^AWS_ACCESS_KEY_ID holds characters that no key has"):
        keys.write(tmp_path, {"AWS_ACCESS_KEY_ID": "a\n[other]"})
    assert not list(tmp_path.iterdir())


def test_the_file_holds_the_keys_and_the_variables_only_say_where_it_is(tmp_path) -> None:
    from botocore.credentials import SharedCredentialProvider

    from vqad.on_ray import keys

    given = {"AWS_ACCESS_KEY_ID": "id=1%s", "AWS_SECRET_ACCESS_KEY": "a/b+c #;"}
    needed = keys.write(tmp_path, given)
    assert "id=1%s" not in str(needed)
    found = SharedCredentialProvider(str(tmp_path / keys.FILE), "default").load()
    assert (found.access_key, found.secret_key) == ("id=1%s", "a/b+c #;")
