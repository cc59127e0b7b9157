"""`vqad inspect`: a verdict and an anomaly map for every image of an archive."""

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options, UsageError
from vqad.images.routing import Routing
from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import Monitoring, shown_url
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
    monitoring = declared.made(Monitoring, options)
    if options.dry_run:
        return dry_run(job, say), 0
    writable.check(options.output, "--output")
    asked = options.model_dump(mode="json")
    if options.notify:
        asked["notify"] = shown_url(options.notify)
    summary = inspect_archive(
        job,
        say,
        monitoring=monitoring,
        num_sheets=options.sheets,
        with_page=options.report,
        asked=asked,
    )
    for each in summary.beyond_limits:
        say(f"vqad inspect: {each.message}")
    return outcome(summary), 1 if summary.beyond_limits else 0


def outcome(summary: Any) -> dict[str, Any]:
    """The promised summary."""
    return {
        "listed": summary.listed,
        "skipped": summary.skipped,
        "left_out": dict(summary.left_out.most_common()),
        "images": summary.images,
        "normal": summary.count("normal"),
        "defect": summary.count("defect"),
        "reject": summary.count("reject"),
        **({"parts": summary.product_parts.record()} if summary.product_parts else {}),
        "seconds": summary.seconds,
        "run": summary.run,
    }


def job_of(options: InspectCommand) -> InspectJob:
    """The job that the options describe. Raises ValueError where it could not start."""
    since = options.modified_since
    if since is not None and since.tzinfo is None:
        raise UsageError(
            f"--modified-since needs a time zone, such as {since.isoformat()}Z, got {since}"
        )
    return declared.made(InspectJob, options, routing=declared.made(Routing, options))
