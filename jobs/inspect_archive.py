"""`vqad inspect`: a verdict and an anomaly map for every image of an archive."""

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options, UsageError
from vqad.images.routing import Routing
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring
from vqad.storage import writable

_FLAGS: Any = declared.flags(InspectJob, Routing, Monitoring)


class InspectCommand(Options, _FLAGS):
    """Inspect every image of an archive that has no verdict yet."""

    model_config = SettingsConfigDict(cli_prog_name="vqad inspect")
    example = (
        "--archive s3://factory/2026-11-22 --models s3://factory/models "
        "--output s3://factory/inspected"
    )

    sheets: int = Field(
        default=0,
        description="number of contact sheets to write, with the highest scores first",
        ge=0,
    )
    report: bool = Field(
        default=True,
        description="do not make the page OUTPUT/report/index.html (default: make it)",
    )
    max_reject_fraction: float = Field(
        default=0.05,
        description="share of rejected images, from 0 to 1, above which the exit code is 1",
        ge=0,
        le=1,
    )
    dry_run: bool = Field(
        default=False,
        description="say what would be inspected and how long it would take, and do nothing",
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("inspect", InspectCommand, arguments, work)


def work(options: InspectCommand) -> tuple[dict[str, Any], int]:
    """Do the dry run or the whole night; returns the summary and the exit code."""
    from vqad.inspection.dry_run import dry_run
    from vqad.on_ray.night import inspect_archive

    job = job_of(options)
    if options.dry_run:
        return dry_run(job, say), 0
    writable.check(options.output, "--output")
    asked = options.model_dump(mode="json")
    summary = inspect_archive(
        job,
        say,
        monitoring=declared.made(Monitoring, options),
        num_sheets=options.sheets,
        with_page=options.report,
        asked=asked,
    )
    return outcome(summary, options.max_reject_fraction)


def outcome(summary: Any, max_reject_fraction: float) -> tuple[dict[str, Any], int]:
    """The promised summary, and the exit code."""
    rejects = summary.count("reject")
    found = {
        "listed": summary.listed,
        "skipped": summary.skipped,
        "left_out": dict(summary.left_out.most_common()),
        "images": summary.images,
        "normal": summary.count("normal"),
        "defect": summary.count("defect"),
        "reject": rejects,
        "seconds": summary.seconds,
        "run": summary.run,
    }
    too_many = rejects > max_reject_fraction * max(1, summary.images)
    if too_many:
        say(
            f"vqad inspect: {rejects} of {summary.images} images were rejected, more than "
            f"--max-reject-fraction {max_reject_fraction:g}"
        )
    return found, 1 if too_many else 0


def job_of(options: InspectCommand) -> InspectJob:
    """The job that the options describe. Raises ValueError where it could not start."""
    since = options.modified_since
    if since is not None and since.tzinfo is None:
        raise UsageError(
            f"--modified-since needs a time zone, such as {since.isoformat()}Z, got {since}"
        )
    return declared.made(InspectJob, options, routing=declared.made(Routing, options))
