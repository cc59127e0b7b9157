"""`vqad export`: the regions of an output for labelling tools."""

from typing import Any

from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Options
from vqad.export.job import ExportJob
from vqad.storage import writable

_FLAGS: Any = declared.flags(ExportJob)


class ExportCommand(Options, _FLAGS):
    """Write the verdicts and regions of an output for labelling tools."""

    model_config = SettingsConfigDict(cli_prog_name="vqad export")
    example = "--format coco --output s3://factory/inspected --to labels"
    after_stop = "the same command begins anew"


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("export", ExportCommand, arguments, work)


def work(options: ExportCommand) -> tuple[dict[str, Any], int]:
    """Write the export; returns the summary and the exit code."""
    from vqad.export.export import export

    job = declared.made(ExportJob, options)
    writable.check(job.folder, "--to" if job.to else "--output")
    summary = export(job, say)
    return summary, 1 if summary["damaged"] else 0
