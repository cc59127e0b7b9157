"""`vqad review`: what people say of the images that they looked at on the page."""

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import choose, run, say
from jobs.options import Options, Uri
from vqad.storage import writable


class ReviewApply(Options):
    """Store marks that the page saved as reviews of an output, and count what is known now."""

    model_config = SettingsConfigDict(cli_prog_name="vqad review apply")
    example = (
        "--reviews reviews-20261122T231230Z-57f9ffbd.jsonl --output s3://factory/inspected "
        "--models s3://factory/models"
    )

    reviews: Uri = Field(description="file of JSON lines that the page saved")
    output: Uri = Field(description="output that the page is about")
    models: Uri = Field(description="folder with the detectors")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    commands = {
        "apply": (
            "store marks that the page saved as reviews of an output",
            lambda rest: run("review apply", ReviewApply, rest, work),
        ),
    }
    example = f"vqad review apply {ReviewApply.example}"
    return choose("vqad review", commands, arguments, example=example)


def work(options: ReviewApply) -> tuple[dict[str, Any], int]:
    """Apply a file; a review of an image without a verdict makes the exit code 1."""
    from vqad.inspection.apply_reviews import apply_reviews

    writable.check(options.output, "--output")
    applied = apply_reviews(options.reviews, options.output, options.models, say)
    return applied.summary(), 1 if applied.refused else 0
