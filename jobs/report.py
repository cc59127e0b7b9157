"""`vqad report`: the page about an output, at any time after an inspection."""

from typing import Any

from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options
from vqad.report.job import ReportJob
from vqad.storage import writable

_FLAGS: Any = declared.flags(ReportJob)


class ReportCommand(Options, _FLAGS):
    """Make the page about an output: counts, plots, and cards with pictures of the images."""

    model_config = SettingsConfigDict(cli_prog_name="vqad report")
    example = "--output s3://factory/inspected"


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("report", ReportCommand, arguments, work)


def work(options: ReportCommand) -> tuple[dict[str, Any], int]:
    """Make the page; returns the summary and the exit code."""
    from vqad.on_ray.report import make_report

    job = declared.made(ReportJob, options)
    writable.check(job.output, "--output")
    made = make_report(job, say)
    say(f"page: {made.page}")
    return made.summary(), 0
