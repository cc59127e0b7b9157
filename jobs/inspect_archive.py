"""All images of an archive -> maps and verdicts."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import Options, Uri, UsageError, run, say


class InspectCommand(Options):
    """Inspect every image of an archive that has no verdict yet."""

    model_config = SettingsConfigDict(cli_prog_name="vqad inspect")

    archive: Uri = Field(description="URI of a folder of images, local or s3://bucket/prefix")
    models: Uri = Field(description="URI of the folder with the detectors")
    output: Uri = Field(description="URI of the folder for maps, verdicts and run.json")
    category: str | None = Field(default=None, description="category of all images")
    category_pattern: str | None = Field(
        default=None, description="regular expression on the path; its first group is the category"
    )
    manifest: Uri | None = Field(
        default=None, description="URI of a Parquet or CSV file with columns image and category"
    )
    include: str | None = Field(default=None, description="glob on the path below the archive")
    modified_since: datetime | None = Field(
        default=None, description="only images as new, ISO 8601"
    )
    limit: int | None = Field(default=None, description="images of this run at the most")
    redo: Literal["changed", "all"] | None = Field(
        default=None,
        description="inspect again what has its verdict: all, or where image or detector changed",
    )
    maps: Literal["all", "defect", "none"] = Field(default="all", description="whose maps are kept")
    sheets: int = Field(
        default=0, description="contact sheets to leave, most severe images first", ge=0
    )
    max_reject_fraction: float = Field(
        default=1.0,
        description="share of rejects above which the run ends with exit code 1",
        ge=0,
        le=1,
    )
    num_actors: int | None = Field(
        default=None,
        description="detector actors; one a GPU, else one a CPU where memory allows, by default",
    )
    gpus_per_actor: float | None = Field(
        default=None,
        description="GPUs of each, may be a fraction; 1 by default where there are any",
    )
    batch_size: int = Field(default=16, description="images in one pass of the networks")
    dry_run: bool = Field(
        default=False, description="say what would be done and how long it would take, do nothing"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("inspect", InspectCommand, arguments, work)


def work(options: InspectCommand) -> tuple[dict[str, Any], int]:
    """Do the dry run or the whole night; returns the summary and the exit code."""
    from vqad.inspection.dry_run import dry_run
    from vqad.on_ray.inspect import inspect_archive

    job = job_of(options)
    if options.dry_run:
        return dry_run(job, say), 0
    asked = options.model_dump(mode="json")
    summary = inspect_archive(job, say, num_sheets=options.sheets, asked=asked)
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


def job_of(options: InspectCommand) -> Any:
    """The job that the options describe. Raises ValueError where it could not start."""
    from vqad.images.routing import Routing
    from vqad.inspection.job import InspectJob

    since = options.modified_since
    if since is not None and since.tzinfo is None:
        raise UsageError(
            f"--modified-since needs a time zone, such as {since.isoformat()}Z, got {since}"
        )
    return InspectJob(
        archive=options.archive,
        models=options.models,
        output=options.output,
        routing=Routing(
            category=options.category,
            manifest=options.manifest,
            category_pattern=options.category_pattern,
        ),
        include=options.include,
        modified_since=since,
        limit=options.limit,
        redo=options.redo,
        maps=options.maps,
        num_actors=options.num_actors,
        gpus_per_actor=options.gpus_per_actor,
        batch_size=options.batch_size,
    )
