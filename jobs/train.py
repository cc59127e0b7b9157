"""Fit one detector per category, side by side."""

import sys
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import Names, Options, PerCategory, Uri, UsageError, run


class TrainCommand(Options):
    """Fit one detector per category, side by side."""

    model_config = SettingsConfigDict(cli_prog_name="vqad train")

    data: Uri = Field(description="URI of DATA/CATEGORY/train/good/* or DATA/CATEGORY/*")
    models: Uri = Field(description="URI of the folder that the detectors go to")
    categories: Names = Field(
        default=(), description="names, a,b,c; all that have images by default"
    )
    preset: Literal["paper", "laptop", "tiny"] = Field(
        default="laptop", description="size of the networks, and budget in optimizer steps"
    )
    run: str = Field(
        default="", description="name of the run; a hash of all that shapes it by default"
    )
    redo: bool = Field(default=False, description="train again what this run has finished")
    seed: int = Field(
        default=0, description="of weights, batches, augmentation and held-out images"
    )
    kind: dict[str, str] = Field(
        default={},
        description="NAME=texture, NAME=rotatable_object or NAME=object; may be repeated",
    )
    minimum_area_px: int | None = Field(
        default=None,
        description="of a defect, in pixels of the model's input; one latent cell by default",
    )
    eta: float | Literal["auto"] = Field(
        default=5e-4,
        description="likelihood under which a code is improbable; auto searches for it",
    )
    threshold_quantile: float = Field(
        default=1.0,
        description="of the held-out scores that sets the threshold; 1 is the paper's rule",
    )
    form: Literal["plain", "joined"] | None = Field(
        default=None,
        description="of the anomaly map: plain, the paper's, or joined with the codes' surprisal; "
        "plain with the preset paper, else joined, by default",
    )
    only: Literal["calibrate"] | None = Field(
        default=None,
        description="calibrate sets eta and threshold of the detectors in force anew, on the "
        "images that they held out, without fitting",
    )
    max_concurrent: int | None = Field(
        default=None,
        description="categories at once; as many as there are GPUs, else CPUs, by default",
    )
    workers_per_category: int = Field(
        default=1, description="workers that share each batch of a category"
    )
    gpus_per_category: float | None = Field(
        default=None,
        description="GPUs of each, may be a fraction; 1 a worker by default where there are any",
    )
    checkpoint_seconds: float = Field(
        default=60.0, description="seconds between two checkpoints, from which a rerun goes on"
    )
    cache_bytes: int = Field(
        default=4 * 2**30,
        description="of memory for a category's decoded images; more are streamed from the node's "
        "temporary folder",
    )
    tensorboard: str = Field(
        default="", description="local folder for TensorBoard's event files, one below it each"
    )
    per_category: dict[str, PerCategory] = Field(
        default={}, description="[categories.NAME] of the configuration file"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("train", TrainCommand, arguments, work)


def work(options: TrainCommand) -> tuple[dict[str, Any], int]:
    """Train; a category that failed makes the exit code 1."""
    from vqad.on_ray import session, train
    from vqad.training import live_table

    if "://" in options.tensorboard:
        raise UsageError(f"--tensorboard must be a local folder, got {options.tensorboard}")
    job = job_of(options)
    names = [each.category for each in job.options]
    with session.connected(), live_table.shown(names, sys.stderr, options.tensorboard) as show:
        summary = train.train(job, show)
    return asdict(summary), 1 if summary.failed else 0


def job_of(options: TrainCommand) -> Any:
    """The job that the options describe. Raises ValueError where it could not start."""
    from vqad.model.kinds import kind_of
    from vqad.on_ray.train import TrainJob
    from vqad.training.category import TrainOptions
    from vqad.training.dataset import categories_in

    there = categories_in(options.data)
    unknown = sorted({*options.kind, *options.per_category} - {*there, *options.categories})
    if unknown:
        raise UsageError(
            f"settings are given for {', '.join(unknown)}, but {options.data} has only "
            f"{', '.join(there)}"
        )
    kinds = {name: each.kind for name, each in options.per_category.items() if each.kind}
    kinds |= options.kind
    each = options.per_category
    return TrainJob(
        data=options.data,
        models=options.models,
        run=options.run,
        redo=options.redo,
        max_concurrent=options.max_concurrent,
        only=options.only,
        workers_per_category=options.workers_per_category,
        gpus_per_category=options.gpus_per_category,
        checkpoint_seconds=options.checkpoint_seconds,
        cache_bytes=options.cache_bytes,
        options=[
            TrainOptions(
                category=name,
                kind=kind_of(name, kinds),
                preset=options.preset,
                seed=options.seed,
                eta=options.eta,
                threshold_quantile=options.threshold_quantile,
                form=options.form,
                minimum_area_px=each.get(name, PerCategory()).minimum_area_px
                or options.minimum_area_px,
                heldout_group=each.get(name, PerCategory()).heldout_group,
            )
            for name in options.categories or there
        ],
    )
