"""`vqad bench train`: how fast this machine trains, and how long whole categories will take."""

import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import run, say
from jobs.options import Kinds, Names, Options, Uri, UsageError
from vqad.training.options import PresetName

NUM_TO_TRAIN_ON = 64  # largest number of images; the rates do not depend on it


class TrainBench(Options):
    """Measure images per second of each stage of training, and estimate whole categories."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench train")
    example = "--data data/mvtec --categories bottle,tile --preset laptop"
    after_stop = "nothing of it was kept"

    data: Uri = Field(
        default="",
        description="folder with the training images, as in vqad train; default: drawn images",
    )
    categories: Names = Field(
        default=(), description="categories to estimate; default: all of --data, or one"
    )
    kind: Kinds = Field(
        default={},
        description="kind of a category, as in vqad train; default: object",
    )
    num_images: int = Field(
        default=209, ge=10, description="training images per category, where there is no --data"
    )
    preset: PresetName = Field(
        default="laptop", description="size of the networks and number of optimizer steps"
    )
    num_steps: int = Field(
        default=5, ge=1, description="optimizer steps that are timed, per network"
    )
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the networks; default: one per core"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("bench train", TrainBench, arguments, work)


def work(options: TrainBench) -> tuple[dict[str, Any], int]:
    """Time the stages on a few images, and estimate the time of all categories."""
    import torch

    from vqad.benchmarks import training
    from vqad.model.kinds import given_kind
    from vqad.training import dataset
    from vqad.training.presets import PRESETS

    torch.set_num_threads(options.num_threads or torch.get_num_threads())
    preset = PRESETS[options.preset]
    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as folder:
        listed = _training_images(options, Path(folder))
        first = next(iter(listed.values()))[:NUM_TO_TRAIN_ON]
        found = dataset.read(first, size_px=preset.vqvae.image_size_px)
    kinds = {name: given_kind(name, options.kind) or "object" for name in listed}
    rates = training.measure(
        options.preset, found.pixels, kind=next(iter(kinds.values())), num_steps=options.num_steps
    )
    num_images = {
        name: len(each) if options.data else options.num_images for name, each in listed.items()
    }
    seconds = {
        name: training.seconds_of_category(
            rates, preset, num_images=num_images[name], kind=kinds[name]
        )
        for name in listed
    }
    return _projection(options, rates, seconds), 0


def _training_images(options: TrainBench, folder: Path) -> dict[str, list[Any]]:
    """Training images by category; without data, those of one drawn category for all."""
    from vqad import synthetic
    from vqad.storage import uris
    from vqad.training import good_images

    if options.data:
        names = (
            options.categories
            or good_images.survey(options.data, good_images.folders(options.data)).usable
        )
        listed = {name: good_images.good_images(options.data, name) for name in names}
        missing = [name for name, each in listed.items() if not each]
        if missing:
            raise UsageError(
                f"there are no images in {uris.join(options.data, missing[0])}; check --categories"
            )
        return listed
    synthetic.draw_archive(
        folder, categories=["ampoule"], num_train=16, num_good=0, num_defect=0, size_px=256
    )
    few = good_images.good_images(str(folder), "ampoule")
    return dict.fromkeys(options.categories or ("ampoule",), few)


def _projection(options: TrainBench, rates: Any, seconds: dict[str, float]) -> dict[str, Any]:
    import torch

    for name in ("vqvae", "encode", "prior", "calibrate"):
        say(f"{name:10}{getattr(rates, name):10.1f} images/s")
    for name in ("vqvae", "prior"):
        share = getattr(rates, f"share_{name}")
        say(f"{name:10}{100 * share:10.0f} % of this machine's matrix products")
    # Categories that train at the same time share the machine, so that their times add up.
    total_s = sum(seconds.values()) / max(1, torch.cuda.device_count())
    for name, each in seconds.items():
        say(f"{name:20} {each:8.0f} s by itself")
    say(f"{'all':20} {total_s:8.0f} s")
    return {
        "preset": options.preset,
        "num_threads": torch.get_num_threads(),
        "images_per_s": {
            name: round(getattr(rates, name), 2)
            for name in ("vqvae", "encode", "prior", "calibrate")
        },
        "matrix_product_gflops": round(rates.matrix_product_flops / 1e9, 1),
        "share_of_matrix_product": {
            "vqvae": round(rates.share_vqvae, 3),
            "prior": round(rates.share_prior, 3),
        },
        "category_seconds": {name: round(each, 1) for name, each in seconds.items()},
        "projected_seconds": round(total_s, 1),
    }
