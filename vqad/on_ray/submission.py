"""Submits a job to a running cluster through its job server, follows it, and reports how it ended.

Only the Python packages are sent, from where they are installed. Nothing of the current folder is
sent, whatever data is in it.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vqad.storage.errors import VqadError

# If a token is given, it is meant to be used. Ray reads this variable while it is imported.
if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import aiohttp
import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from vqad.on_ray import s3_keys, session

CONNECT_TIMEOUT_S: Final = 10
ANSWER_TIMEOUT_S: Final = 60
# A connection that is silent for this long may be dead; to ask again costs little. A guess.
SILENCE_S: Final = 60
# A head that does not answer for this long while its job is followed is given up. A guess.
GIVE_UP_AFTER_S: Final = 300
PAUSE_S: Final = 2

# Ray prefers these variables to the address that it is given.
_OVERRIDING: Final = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


class ClusterError(VqadError, ValueError):
    """Nothing was started: the job server cannot be reached, or it refuses the job."""


class LostError(VqadError, RuntimeError):
    """The job was submitted, and it is not known how it ended."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended."""

    code: int | None  # exit code of its command; None if that did not end by itself
    summary: dict[str, Any] | None  # the last line of its standard output
    reason: str  # one line; "" if the command ended by itself


class _Client(JobSubmissionClient):
    """Ray's client with a timeout: by itself it waits without end for a server that is silent."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        options = {"timeout": (CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S)} | options
        return super()._do_request(*arguments, **options)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server at ``http://HOST:PORT``. Raises ClusterError."""
    if not re.fullmatch(r"https?://[^/@\s]+/?", address):
        # The address is not shown: it may contain a password.
        raise ClusterError("the address of a job server is http://HOST:PORT or https://HOST:PORT")
    address = address.rstrip("/")
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)
    try:
        with _without(_OVERRIDING):
            return _Client(address)
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(_refused(address, str(error))) from None
    except OSError as error:
        if isinstance(error, ValueError):  # an invalid header; its text contains the token
            raise ClusterError(
                "the token contains characters that an HTTP header must not; check RAY_AUTH_TOKEN"
            ) from None
        raise ClusterError(
            f"the cluster at {address} cannot be reached; check --address, that its head runs, and "
            "the network"
        ) from None
    except (RuntimeError, ValueError, KeyError):
        raise ClusterError(
            f"a server answers at {address}, but it is not a job server of Ray; check --address"
        ) from None


def _refused(address: str, said: str) -> str:
    if "Forbidden" in said:
        return f"the cluster at {address} refuses the token; check RAY_AUTH_TOKEN"
    return (
        f"the cluster at {address} needs a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to "
        "that of its head"
    )


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def submit(
    client: JobSubmissionClient,
    command: Sequence[str],
    *,
    packages: Sequence[Path],
    environment: Mapping[str, str],
    aws_keys: Mapping[str, str],
    submission_id: str,
) -> None:
    """Start a command on the cluster, with these packages in its working directory.

    The variables of ``environment`` and ``aws_keys`` reach the command and all its workers; those
    of ``aws_keys`` are kept secret. Raises ClusterError, or ValueError for a malformed key.
    """
    with tempfile.TemporaryDirectory(prefix="vqad-submit-") as folder:
        for package in packages:
            left_out = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, Path(folder) / package.name, ignore=left_out)
        needed: dict[str, Any] = s3_keys.write(Path(folder), aws_keys) if aws_keys else {}
        variables = dict(environment) | needed.get("env_vars", {})
        try:
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=submission_id,
                runtime_env=needed | {"working_dir": folder, "env_vars": variables},
            )
        except (RuntimeError, OSError, ray.exceptions.RayError) as error:
            raise ClusterError(
                f"the job server did not accept the job: {session.reason(error)}"
            ) from None


def follow(client: JobSubmissionClient, submission_id: str, say: Callable[[str], None]) -> Ended:
    """Pass the job's log line by line to ``say`` until the job ends. Raises LostError."""
    log = _Log(say)
    answered_s = time.monotonic()
    while True:
        with contextlib.suppress(aiohttp.ClientError, RuntimeError, OSError):
            asyncio.run(_tail(client, submission_id, log))
        try:
            details = client.get_job_info(submission_id)
        except (RuntimeError, OSError, ray.exceptions.RayError):
            if time.monotonic() - answered_s > GIVE_UP_AFTER_S:
                raise LostError("its job server no longer answers") from None
        else:
            answered_s = time.monotonic()
            if details.status.is_terminal():
                return _ended(details, log)
        time.sleep(PAUSE_S)


async def _tail(client: JobSubmissionClient, submission_id: str, log: "_Log") -> None:
    """Read the log until the job ends, the connection breaks, or it is silent for too long."""
    log.rewind()
    stream: Any = client.tail_job_logs(submission_id)
    async with contextlib.aclosing(stream):
        with contextlib.suppress(StopAsyncIteration):
            while True:
                log.add(await asyncio.wait_for(anext(stream), SILENCE_S))


class _Log:
    """A log that arrives in pieces: whole lines go to a person, the command's JSON is kept."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.summary: dict[str, Any] | None = None
        self.rest = ""  # a line without its end
        self.num_seen = self.num_read = 0  # characters in all, and of this connection

    def rewind(self) -> None:
        """The next connection sends the log from its beginning."""
        self.num_read = 0

    def add(self, text: str) -> None:
        """Take the next piece of this connection, and skip what was seen before."""
        new = text[max(0, self.num_seen - self.num_read) :]
        self.num_read += len(text)
        self.num_seen = max(self.num_seen, self.num_read)
        *lines, self.rest = (self.rest + new).split("\n")
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Take the last line, which may have no line end."""
        if self.rest:
            self._line(self.rest)
            self.rest = ""

    def _line(self, line: str) -> None:
        # Only a command's standard output carries JSON.
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                self.summary = found
                return
        self.say(line)


def _ended(details: Any, log: _Log) -> Ended:
    log.finish()
    code = details.driver_exit_code
    reason = ""
    if details.status == JobStatus.STOPPED or code in (130, 143):
        code, reason = None, "it was stopped"
    elif code is None:
        lines = (details.message or "").strip().splitlines()
        reason = lines[-1].strip() if lines else "the job server gives no reason"
    elif code not in (0, 1, 2):
        code, reason = None, f"its command ended with exit code {code}"
    return Ended(code=code, summary=log.summary, reason=reason)
