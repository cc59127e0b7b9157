"""`vqad inspect`: a verdict and an anomaly map for every image of an archive."""

from contextlib import nullcontext
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options, UsageError
from vqad.images.routing import Routing
from vqad.inspection.job import InspectJob
from vqad.storage.errors import IncompleteError

_FLAGS: Any = declared.flags(InspectJob, Routing)


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
    max_reject_fraction: float = Field(
        default=1.0,
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
    """Plan, inspect, write run.json and the contact sheets."""
    from vqad.inspection import dry_run, history, plan, run_report, survey
    from vqad.on_ray import contact_sheets, inspect, session
    from vqad.storage import lease

    job = job_of(options)
    surveyed = survey.survey(job)
    if options.dry_run:
        return dry_run.foresee(job, plan.plan(job, surveyed), say), 0
    try:
        with lease.held(job.output, surveyed.run) as mine:
            settled = plan.plan(job, surveyed)
            say(dry_run.described(settled))
            # With nothing to do, nothing need be started.
            with session.connected() if settled.num_todo or settled.shards else nullcontext():
                num_severest = options.sheets * run_report.ROWS_A_SHEET
                summary = inspect.inspect(job, settled, say, num_severest=num_severest, held=mine)
                contact_sheets.write_sheets(job, settled, summary, say, num_sheets=options.sheets)
            mine.check()
            runs = list(history.last_runs(job.output))
            summary.warnings = history.warnings(summary.by_category, runs)
            for warning in summary.warnings:
                say(f"warning: {warning}")
            run_report.write_run(job, summary, asked=options.model_dump(mode="json"))
    except inspect.FAILURES as error:
        why = session.reason(error)
        raise IncompleteError(f"the run could not be finished: {why}") from error
    return outcome(summary, options.max_reject_fraction)


def outcome(summary: Any, max_reject_fraction: float) -> tuple[dict[str, Any], int]:
    """The promised summary, and the exit code."""
    rejects = summary.count("reject")
    found = {
        "listed": summary.listed,
        "skipped": summary.skipped,
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
