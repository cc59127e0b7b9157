"""A job on a running cluster, by way of its job server: submitted, followed, and how it ended.

What is sent is the Python packages alone, from where they are installed: whatever folder a person
stands in, and whatever data lies there, stays where it is.
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

# Who names a token means to use it. Ray reads this while it is imported.
if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import aiohttp
import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from vqad.on_ray import s3_keys, session

CONNECT_TIMEOUT_S: Final = 10
ANSWER_TIMEOUT_S: Final = 60
# A connection that says nothing for so long may be dead; asking anew costs little.
SILENCE_S: Final = 60
# A head that does not answer for so long while it is followed is given up. A guess.
GIVE_UP_AFTER_S: Final = 300
PAUSE_S: Final = 2

# What Ray prefers to the address that it is given.
_OVERRIDING: Final = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


class ClusterError(VqadError, ValueError):
    """Nothing was started: the job server can't be reached or refuses; says what would do."""


class LostError(VqadError, RuntimeError):
    """The job was submitted, and what became of it can't be told from here."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended."""

    code: int | None  # of its command; None where that did not end by itself
    summary: dict[str, Any] | None  # the last line of its standard output
    reason: str  # in one line, "" where the command ended by itself


class _Client(JobSubmissionClient):
    """Ray's client, which would wait without end for a server that does not answer."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        options = {"timeout": (CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S)} | options
        return super()._do_request(*arguments, **options)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server at ``http://HOST:PORT``. Raises ClusterError."""
    if not re.fullmatch(r"https?://[^/@\s]+/?", address):
        # With a user and a password in it, it must not be shown.
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
        if isinstance(error, ValueError):  # of a header, whose text holds the token
            raise ClusterError("the token holds what no header may; check RAY_AUTH_TOKEN") from None
        raise ClusterError(
            f"the cluster at {address} cannot be reached; check --address, that its head runs, and "
            "the network"
        ) from None
    except (RuntimeError, ValueError, KeyError):
        raise ClusterError(f"what answers at {address} is no job server of Ray") from None


def _refused(address: str, said: str) -> str:
    if "Forbidden" in said:
        return f"the cluster at {address} refuses the token; check RAY_AUTH_TOKEN"
    return (
        f"the cluster at {address} wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to "
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

    The variables of ``environment``, which may be seen, and of ``aws_keys``, which may not, reach
    the command and all its workers. Raises ValueError.
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
                f"the job server did not take the job: {session.reason(error)}"
            ) from None


def follow(client: JobSubmissionClient, submission_id: str, say: Callable[[str], None]) -> Ended:
    """Hand the job's log line by line to ``say`` until it ends. Raises LostError."""
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
    """Read the log until the job ends, the connection breaks, or nothing comes for a while."""
    log.rewind()
    stream: Any = client.tail_job_logs(submission_id)
    async with contextlib.aclosing(stream):
        with contextlib.suppress(StopAsyncIteration):
            while True:
                log.add(await asyncio.wait_for(anext(stream), SILENCE_S))


class _Log:
    """A log as it comes: whole lines to a person, the command's JSON kept apart."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.summary: dict[str, Any] | None = None
        self.rest = ""  # a line that has begun
        self.num_seen = self.num_read = 0  # characters ever, and of this connection

    def rewind(self) -> None:
        """The next connection begins at the beginning."""
        self.num_read = 0

    def add(self, text: str) -> None:
        """Take the next piece of this connection, and pass over what was seen before."""
        new = text[max(0, self.num_seen - self.num_read) :]
        self.num_read += len(text)
        self.num_seen = max(self.num_seen, self.num_read)
        *lines, self.rest = (self.rest + new).split("\n")
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """A last line without an end is one, too."""
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
    if details.status == JobStatus.STOPPED:
        code, reason = None, "it was stopped"
    elif code is None:
        told = (details.message or "").strip().splitlines()
        reason = told[-1].strip() if told else "nothing is known of its end"
    elif code not in (0, 1, 2):
        code, reason = None, f"its command was ended with code {code}"
    return Ended(code=code, summary=log.summary, reason=reason)
