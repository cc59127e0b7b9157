"""`vqad submit`: train or inspect on a running cluster, through Ray's job server.

Options are read here, where the configuration file and the environment are, and passed on as
flags. Standard error follows the job's log; summary and exit code are the job's.
"""

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

import jobs
import vqad
from jobs.command import choose, run, say
from jobs.inspect_archive import InspectCommand
from jobs.options import Options, Shown, UsageError, flag_of
from jobs.train import TrainCommand
from vqad.storage.errors import IncompleteError

# Where S3 is. None of these variables names a file of this machine.
AWS_PLACES: Final = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
)
AWS_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Submission(Options):
    """How a command gets to a cluster."""

    after_stop = "a job that was submitted goes on; only its log is no longer followed"

    address: Annotated[str, Shown("URL")] = Field(
        default="",
        description="URL of the cluster's job server, http://HEAD:8265; its token is read from "
        "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; default: RAY_API_SERVER_ADDRESS",
    )
    wait: bool = Field(
        default=True, description="submit only: do not follow the job to its end (default: follow)"
    )
    forward: bool = Field(
        default=True,
        description="do not pass the AWS variables of this shell on to the job, as where the "
        "cluster has its own (default: pass them on)",
    )
    shared_paths: bool = Field(
        default=False,
        description="allow local paths, because every node sees the same files there",
    )


class SubmitTrain(Submission, TrainCommand):
    """Fit one detector per category on a running cluster."""

    model_config = SettingsConfigDict(cli_prog_name="vqad submit train")
    example = "--address http://head:8265 --data s3://factory/good --models s3://factory/models"


class SubmitInspect(Submission, InspectCommand):
    """Inspect an archive on a running cluster."""

    model_config = SettingsConfigDict(cli_prog_name="vqad submit inspect")
    example = (
        "--address http://head:8265 --archive s3://factory/2026-11-22 "
        "--models s3://factory/models --output s3://factory/inspected"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    commands = {
        "train": (
            "fit one detector per category on a running cluster",
            lambda rest: run("submit train", SubmitTrain, rest, work),
        ),
        "inspect": (
            "inspect an archive on a running cluster",
            lambda rest: run("submit inspect", SubmitInspect, rest, work),
        ),
    }
    example = f"vqad submit train {SubmitTrain.example}"
    return choose("vqad submit", commands, arguments, example=example)


def work(options: Submission) -> tuple[dict[str, Any], int]:
    """Submit, follow the job unless that is not wanted, and end as the job ends."""
    kind = "train" if isinstance(options, SubmitTrain) else "inspect"
    command = ["python", "-m", "jobs", kind, *flags(options)]
    _check_paths(options)
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS", "")
    if not address:
        raise UsageError("--address is required, such as http://HEAD:8265")
    # Imports Ray, which takes seconds.
    from vqad.on_ray import submission

    client = submission.connect(address)
    places, aws_keys = (
        {name: os.environ[name] for name in names if options.forward and os.environ.get(name)}
        for names in (AWS_PLACES, AWS_KEYS)
    )
    say(f"variables passed on to the job: {', '.join([*places, *aws_keys]) or 'none'}")
    name = f"vqad-{kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    submission.submit(
        client,
        command,
        packages=[Path(str(package.__file__)).parent for package in (jobs, vqad)],
        environment=places,
        aws_keys=aws_keys,
        submission_id=name,
    )
    _say_next_steps(name, address)
    if not options.wait:
        return {"submission_id": name, "address": address}, 0
    return _followed(client, name)


def flags(options: Submission) -> list[str]:
    """The command's own options as flags, without those of the submission."""
    given = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    own = {name: value for name, value in given.items() if name not in Submission.model_fields}
    return [_flag(flag_of(name), value) for name, value in own.items()]


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else name.replace("--", "--no-", 1)
    if isinstance(value, list):
        return f"{name}={','.join(map(str, value))}"
    return f"{name}={json.dumps(value) if isinstance(value, dict) else value}"


def _check_paths(options: Submission) -> None:
    """A local path is a different place on every machine, and nothing is copied from this one."""
    if options.shared_paths:
        return
    for name, value in options:
        if isinstance(value, str) and value.startswith("file://"):
            raise UsageError(
                f"{flag_of(name)} {value} is a local path, and nothing is copied to the cluster; "
                "give s3://bucket/prefix, or --shared-paths if every node sees the same files there"
            )


def _say_next_steps(name: str, address: str) -> None:
    say(f"submitted {name}")
    say(f"to follow it: ray job logs --follow --address {address} {name}")
    say(f"to stop it:   ray job stop --address {address} {name}")
    say("to resume:    give the same command again; it does what is missing")


def _followed(client: Any, name: str) -> tuple[dict[str, Any], int]:
    from vqad.on_ray import submission

    try:
        ended = submission.follow(client, name, say)
    except submission.LostError as error:
        raise IncompleteError(f"it is not known how {name} ended: {error}") from None
    if ended.code == 2:
        raise UsageError(f"{name} started nothing; its log above says why")
    if ended.code is None or ended.summary is None:
        raise IncompleteError(f"{name} is incomplete: {ended.reason or 'its log above says why'}")
    return ended.summary, ended.code
