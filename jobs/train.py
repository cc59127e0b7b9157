"""`vqad train`: fit one detector per category."""

import sys
from dataclasses import asdict
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import categories, declared
from jobs.command import run, say
from jobs.options import Kinds, LocalPath, Names, Options, Places, UsageError
from vqad.storage import writable
from vqad.storage.errors import work_begun
from vqad.training.job import TrainJob
from vqad.training.options import MINIMUM_AREAS, TrainOptions

_FLAGS: Any = declared.flags(TrainJob, TrainOptions)
PerCategory: Any = declared.per_category(TrainOptions)


class TrainCommand(Options, _FLAGS):
    """Fit one detector per category, several categories at the same time."""

    model_config = SettingsConfigDict(cli_prog_name="vqad train")
    example = "--data data/mvtec --models models --categories bottle,tile --kind tile=texture"

    categories: Names = Field(
        default=(), description="categories to train; default: all that have images"
    )
    kind: Kinds = Field(
        default={},
        description="kind of a category: NAME=texture, NAME=rotatable_object or NAME=object; may "
        "be repeated; default: found from the good images, an object where that is not clear",
    )
    roi: Places = Field(
        default={},
        description="region of interest of a category: NAME=URI of a mask picture of the size of "
        "its images, white inside, or of a .json file with polygons; what lies outside counts "
        "nowhere; may be repeated; default: none",
    )
    ignore: Places = Field(
        default={},
        description="region to ignore of a category, in the same form; may be repeated; "
        "default: none",
    )
    tensorboard: LocalPath = Field(
        default="",
        description="local folder for TensorBoard logs, one subfolder per category; default: none",
    )
    dry_run: bool = Field(
        default=False,
        description="say what would be fitted, on which images and for how long, and what looks "
        "wrong in the images, and do nothing",
    )
    per_category: dict[str, PerCategory] = Field(
        default={}, description="[categories.NAME] of the configuration file; default: none"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("train", TrainCommand, arguments, work)


def work(options: TrainCommand) -> tuple[dict[str, Any], int]:
    """Train; a category that failed makes the exit code 1."""
    if "://" in options.tensorboard:
        raise UsageError(f"--tensorboard must be a local folder, got {options.tensorboard}")
    if options.dry_run:
        return dry_run(job_of(options)), 0
    writable.check(options.models, "--models")
    job = job_of(options)
    # Ray takes seconds to import, so mistakes are looked for first.
    from vqad.on_ray import failures, session, train
    from vqad.training import live_table

    names = [each.category for each in job.options]
    with session.connected():
        train.check(job)
        with (
            work_begun(),
            failures.explained(train.FEWER),
            live_table.shown(names, sys.stderr, options.tensorboard) as show,
        ):
            summary = train.train(job, show)
    return asdict(summary), 1 if summary.failed else 0


def dry_run(job: TrainJob) -> dict[str, Any]:
    """Say what a training would do; returns the summary. Writes nothing."""
    from vqad.benchmarks import training
    from vqad.inspection import stored_reviews
    from vqad.training.dry_run import foresee

    found = foresee(job, say)
    seconds = training.seconds_of(job, found, say)
    records = {one.category: one.record() | seconds.get(one.category, {}) for one in found}
    for category, record in records.items() if job.reviews else ():
        record["reviewed"] = len(stored_reviews.false_alarms(job.reviews, category, say))
        say(f"{category}: {record['reviewed']} confirmed false alarms would be learned from too")
    total = round(sum(each["seconds"] for each in seconds.values()), 1)
    return {"dry_run": True, "seconds": total, "categories": records}


def job_of(options: TrainCommand) -> TrainJob:
    """The job that the options describe. Raises ValueError where it could not start."""
    from vqad.inspection import stored_reviews
    from vqad.training import good_images, regions

    existing = good_images.folders(options.data)
    for option, given in (
        ("--categories", options.categories),
        ("--kind", options.kind),
        ("--roi", options.roi),
        ("--ignore", options.ignore),
        ("[categories.NAME]", options.per_category),
    ):
        categories.check(given, existing, options.data, option=option)
    patterns = {name: each.good_pattern for name, each in options.per_category.items()}
    own = {name: each for name, each in patterns.items() if each is not None}
    wanted = tuple(dict.fromkeys(options.categories or existing))  # each once
    found = good_images.survey(options.data, wanted, options.good_pattern, own)
    # A category that is given and has no good images fails by itself, beside the others.
    names = wanted if options.categories else found.with_images
    each = [options_of(name, options) for name in names]
    for one in each:
        regions.checked(options.data, one)
    reviews = stored_reviews.output_of(options.reviews) if options.reviews else ""
    return declared.made(TrainJob, options, options=each, reviews=reviews)


def options_of(category: str, options: TrainCommand) -> TrainOptions:
    """The options of one category: those of its table come before those for all categories."""
    from vqad.model.kinds import given_kind

    table = options.per_category.get(category, PerCategory())
    own = {name: value for name, value in table if value is not None}
    in_table = {category: own["kind"]} if "kind" in own else {}
    own["kind"] = given_kind(category, in_table | options.kind)
    for name, given in (("roi", options.roi), ("ignore", options.ignore)):
        own |= {name: given[category]} if category in given else {}
    if own.keys() & set(MINIMUM_AREAS):  # of any unit: it comes before that for all categories
        own = dict.fromkeys(MINIMUM_AREAS) | own
    return declared.made(TrainOptions, options, category=category, **own)
