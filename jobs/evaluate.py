"""`vqad evaluate`: the paper's tables and figures on your own data."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import declared
from jobs.command import run, say
from jobs.options import Names, Options, Uri, UsageError
from vqad.evaluation.job import EvaluateJob

_FLAGS: Any = declared.flags(EvaluateJob)


class EvaluateCommand(Options, _FLAGS):
    """Inspect the test images of data in MVTec AD's layout and measure the results by its masks."""

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
    """Inspect unless that is already done, measure, and write tables and figures."""
    from contextlib import nullcontext

    from vqad.on_ray import evaluate, inspect, session
    from vqad.storage import errors

    if not (options.models or options.verdicts):
        raise UsageError("--models is required, or --verdicts of a finished inspection")
    categories = list(options.categories) or _with_tests(options)
    jobs = [] if options.verdicts else _inspections(options, categories)
    job = declared.made(
        EvaluateJob,
        options,
        inspected=options.verdicts or jobs[0].output,
        categories=categories,
    )
    evaluate.check(job)
    with session.connected() if options.models else nullcontext():
        for each in jobs:
            inspect.inspect_archive(each, say)
        with errors.work_begun(), inspect.ray_errors_explained():
            found = evaluate.evaluate(job, say)
    _write(options.output, options.data, found)
    return _summary(found), 0


def _inspections(options: EvaluateCommand, categories: list[str]) -> list[Any]:
    from vqad.on_ray import evaluate

    return evaluate.jobs_for(options.data, options.models, options.output, categories)


def _with_tests(options: EvaluateCommand) -> list[str]:
    from vqad.storage import files, models_layout, uris

    found = [
        name
        for name in files.list_names(options.data)
        if files.exists(uris.join(options.data, name, "test"))
        and (options.verdicts or files.exists(models_layout.current(options.models, name)))
    ]
    if not found:
        raise ValueError(
            f"no category of {options.data} has both DATA/CATEGORY/test and a detector in "
            f"{options.models}"
        )
    return found


def _summary(found: Any) -> dict[str, Any]:
    """Metrics of the method itself: their mean, and those of each category."""
    from dataclasses import asdict

    from vqad.evaluation import measure

    own = [each for each in found.measured if each.method == measure.RESAMPLING]
    return {
        "mean": asdict(measure.mean_of(own, measure.RESAMPLING)),
        "categories": {each.category: asdict(each.metrics) for each in own},
    }


def _write(output: str, data: str, found: Any) -> None:
    """Write evaluation.{json,parquet,md} and figures/*.png, the JSON last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vqad.evaluation import markdown, measure
    from vqad.storage import files, uris

    for name, picture in found.pictures.items():
        files.write_bytes(uris.join(output, "figures", name), picture)
    sink = pa.BufferOutputStream()
    pq.write_table(measure.table(found.measured), sink, compression="zstd")
    files.write_bytes(uris.join(output, "evaluation.parquet"), sink.getvalue().to_pybytes())
    about = [f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {data}.", *found.about]
    pictures = [f"figures/{name}" for name in sorted(found.pictures)]
    text = markdown.text(found.measured, about=about, pictures=pictures)
    files.write_bytes(uris.join(output, "evaluation.md"), text.encode())
    record = {**_summary(found), "measured": [each.as_dict() for each in found.measured]}
    content = (json.dumps(record, indent=2) + "\n").encode()
    files.write_bytes(uris.join(output, "evaluation.json"), content)
    say(f"tables and figures: {uris.join(output, 'evaluation.md')}")
