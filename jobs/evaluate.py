"""`vqad evaluate`: the paper's tables and figures on your own data."""

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Names, Options, Uri
from vqad.evaluation.job import EvaluateJob

_FLAGS: Any = declared.flags(EvaluateJob)


class EvaluateCommand(Options, _FLAGS):
    """Inspect the test images of labelled data and measure the results by labels and masks."""

    model_config = SettingsConfigDict(cli_prog_name="vqad evaluate")
    example = "--data data/mvtec --models models --output evaluation --categories bottle,tile"

    categories: Names = Field(
        default=(),
        description="categories to evaluate; default: all that have test images and a detector",
    )
    verdicts: Uri | None = Field(
        default=None,
        description="output of a finished inspection, which is read instead of inspecting; "
        "default: inspect",
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("evaluate", EvaluateCommand, arguments, work)


def work(options: EvaluateCommand) -> tuple[dict[str, Any], int]:
    """Do the evaluation; returns the summary and the exit code."""
    from vqad.evaluation.survey import describe_failed
    from vqad.on_ray.evaluate import evaluate
    from vqad.storage import writable

    writable.check(options.output, "--output")
    job = declared.made(
        EvaluateJob, options, categories=options.categories, verdicts=options.verdicts or ""
    )
    found = evaluate(job, say)
    if found.failed:
        say(f"vqad evaluate: {describe_failed(found.failed)}")
    return found.summary(), 1 if found.failed else 0
