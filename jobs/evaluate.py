"""The paper's tables and figures on one's own data."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import Names, Options, Uri, UsageError, run, say


class EvaluateCommand(Options):
    """Inspect the test images of an MVTec layout, and hold the verdicts against its masks."""

    model_config = SettingsConfigDict(cli_prog_name="vqad evaluate")

    data: Uri = Field(
        description="URI of DATA/CATEGORY/test/{good,DEFECT}/* and "
        "DATA/CATEGORY/ground_truth/DEFECT/NAME_mask.png"
    )
    models: Uri = Field(default="", description="URI of the folder with the detectors")
    output: Uri = Field(description="URI of the folder for tables, figures and evaluation.json")
    categories: Names = Field(
        default=(), description="names, a,b,c; all that have test images and a detector by default"
    )
    verdicts: Uri | None = Field(
        default=None,
        description="URI of a finished inspection's output, to be read instead of inspecting",
    )
    baselines: bool = Field(
        default=False,
        description="fit and measure the autoencoders AE-L2 and AE-SSIM too; needs "
        "DATA/CATEGORY/train/good/*",
    )
    ablations: bool = Field(
        default=False,
        description="measure the method with one part taken away at a time too; needs "
        "DATA/CATEGORY/train/good/*",
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("evaluate", EvaluateCommand, arguments, work)


def work(options: EvaluateCommand) -> tuple[dict[str, Any], int]:
    """Inspect unless that is done, measure, write tables and figures."""
    from contextlib import nullcontext

    from vqad.on_ray import evaluate, inspect, session
    from vqad.storage import errors

    if not (options.models or options.verdicts):
        raise UsageError("--models is required, or --verdicts of a finished inspection")
    categories = list(options.categories) or _with_tests(options)
    jobs = [] if options.verdicts else _inspections(options, categories)
    job = evaluate.EvaluateJob(
        data=options.data,
        models=options.models,
        inspected=options.verdicts or jobs[0].output,
        output=options.output,
        categories=categories,
        baselines=options.baselines,
        ablations=options.ablations,
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
    from vqad.storage import files, uris

    def has(*parts: str) -> bool:
        return files.exists(uris.join(*parts))

    found = [
        name
        for name in files.list_names(options.data)
        if has(options.data, name, "test")
        and (options.verdicts or has(options.models, name, "current.json"))
    ]
    if not found:
        raise ValueError(
            f"no category of {options.data} has both DATA/CATEGORY/test and a detector in "
            f"{options.models}"
        )
    return found


def _summary(found: Any) -> dict[str, Any]:
    """Metrics of the method itself: the mean, and each category."""
    from dataclasses import asdict

    from vqad.evaluation import measure

    own = [each for each in found.measured if each.method == measure.RESAMPLING]
    return {
        "mean": asdict(measure.mean_of(own, measure.RESAMPLING)),
        "categories": {each.category: asdict(each.metrics) for each in own},
    }


def _write(output: str, data: str, found: Any) -> None:
    """Leave evaluation.{json,parquet,md} and figures/*.png, the JSON last."""
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
