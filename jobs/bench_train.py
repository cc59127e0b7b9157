"""How fast this machine trains, and how long a night's categories will take."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.command import Names, Options, Uri, run, say

NUM_TO_TRAIN_ON = 64  # images at most; rates do not hang on their number


class TrainBench(Options):
    """Images a second of every stage of training, and the time of whole categories from them."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench train")

    data: Uri = Field(
        default="", description="URI of DATA/CATEGORY/train/good/*; drawn images by default"
    )
    categories: Names = Field(
        default=(), description="names, a,b,c, to project for; all of --data by default"
    )
    kind: dict[str, str] = Field(default={}, description="NAME=texture, ..., as in vqad train")
    num_images: int = Field(
        default=209, ge=10, description="images of each category, where there is no --data"
    )
    preset: Literal["paper", "laptop", "tiny"] = Field(
        default="laptop", description="size of the networks, and budget in optimizer steps"
    )
    num_steps: int = Field(default=5, ge=1, description="optimizer steps to time of each network")
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the networks; all cores by default"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    return run("bench train", TrainBench, arguments, work)


def work(options: TrainBench) -> tuple[dict[str, Any], int]:
    """Time the stages on a few images, and project for all categories."""
    import torch

    from vqad.benchmarks import training
    from vqad.model.kinds import kind_of
    from vqad.training import dataset
    from vqad.training.presets import PRESETS

    torch.set_num_threads(options.num_threads or torch.get_num_threads())
    preset = PRESETS[options.preset]
    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as folder:
        listed = _learned_from(options, Path(folder))
        first = next(iter(listed.values()))[:NUM_TO_TRAIN_ON]
        found = dataset.read(first, size_px=preset.vqvae.image_size_px)
    kinds = {name: kind_of(name, options.kind) for name in listed}
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


def _learned_from(options: TrainBench, folder: Path) -> dict[str, list[Any]]:
    """Images by category; one drawn category's for all where there are no data."""
    from vqad import synthetic
    from vqad.storage import uris
    from vqad.training import dataset

    if options.data:
        names = options.categories or dataset.categories_in(options.data)
        listed = {name: dataset.good_images(options.data, name) for name in names}
        missing = [name for name, each in listed.items() if not each]
        if missing:
            raise ValueError(f"no images in {uris.join(options.data, missing[0])}")
        return listed
    synthetic.draw_archive(
        folder, categories=["ampoule"], num_train=16, num_good=0, num_defect=0, size_px=256
    )
    few = dataset.good_images(str(folder), "ampoule")
    return dict.fromkeys(options.categories or ("ampoule",), few)


def _projection(options: TrainBench, rates: Any, seconds: dict[str, float]) -> dict[str, Any]:
    import torch

    for name in ("vqvae", "encode", "prior", "calibrate"):
        say(f"{name:10}{getattr(rates, name):10.1f} images/s")
    for name in ("vqvae", "prior"):
        share = getattr(rates, f"share_{name}")
        say(f"{name:10}{100 * share:10.0f} % of this machine's matrix products")
    # Categories side by side share the same machine, so that their times add up.
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
