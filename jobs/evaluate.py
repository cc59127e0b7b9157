"""Verdicts and maps against ground truth."""

import json
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import IncompleteError, Names, Options, Uri, run, say


class EvaluateCommand(Options):
    """Inspect the test images of an MVTec layout, and hold the verdicts against its masks."""

    model_config = SettingsConfigDict(cli_prog_name="vqad evaluate")

    data: Uri = Field(
        description="URI of DATA/CATEGORY/test/{good,DEFECT}/* and "
        "DATA/CATEGORY/ground_truth/DEFECT/NAME_mask.png"
    )
    models: Uri = Field(default="", description="URI of the folder with the detectors")
    output: Uri = Field(description="URI of the folder for tables and evaluation.json")
    categories: Names = Field(
        default=(), description="names, a,b,c; all that have test images and a detector by default"
    )
    verdicts: Uri | None = Field(
        default=None,
        description="URI of a finished inspection's output, to be read instead of inspecting",
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("evaluate", EvaluateCommand, arguments, work)


def work(options: EvaluateCommand) -> tuple[dict[str, Any], int]:
    """Inspect unless that is done, measure, write evaluation.json."""
    from vqad import archives, evaluation

    categories = list(options.categories) or _with_tests(options)
    output = options.verdicts or _inspect(options, categories)
    found = evaluation.evaluate(options.data, output, categories)
    data = (json.dumps(found, indent=2) + "\n").encode()
    archives.write_bytes(archives.join(options.output, "evaluation.json"), data)
    for category, measured in found["categories"].items():
        values = (f"{name} {value:.3f}" for name, value in measured.items() if value is not None)
        say(f"{category}: {', '.join(values)}")
    return found, 0


def _with_tests(options: EvaluateCommand) -> list[str]:
    from vqad import archives

    def has(*parts: str) -> bool:
        return archives.exists(archives.join(*parts))

    found = [
        name
        for name in archives.list_names(options.data)
        if has(options.data, name, "test")
        and (options.verdicts or has(options.models, name, "current.json"))
    ]
    if not found:
        raise ValueError(
            f"no category of {options.data} has both DATA/CATEGORY/test and a detector in "
            f"{options.models}"
        )
    return found


def _inspect(options: EvaluateCommand, categories: list[str]) -> str:
    """Inspect the test images; returns the folder of the tables."""
    from vqad.on_ray import evaluate, inspect, session

    jobs = evaluate.jobs_for(options.data, options.models, options.output, categories)
    plans = [inspect.plan(job) for job in jobs]
    with session.connected():
        try:
            for job, plan in zip(jobs, plans, strict=True):
                inspect.inspect(job, plan, say)
        except inspect.FAILURES as error:
            why = session.reason(error)
            raise IncompleteError(f"the run could not be finished: {why}") from error
    return jobs[0].output
