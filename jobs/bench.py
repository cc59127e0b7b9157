"""`vqad bench`: how fast this machine resamples, inspects and trains."""

import importlib.util
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import bench_train
from jobs.command import choose, run, say
from jobs.options import Options, Uri, UsageError
from vqad.training.options import FormName, PrecisionName, PresetName

# Images on which each stage is timed by itself, at least two batches; whole pipelines are timed on
# all images. A guess.
NUM_FOR_STAGES = 64


class BenchOptions(Options):
    """Where detector and images come from."""

    after_stop = "nothing of it was kept"

    models: Uri = Field(
        default="", description="folder with the detectors; default: a detector of random weights"
    )
    archive: Uri = Field(default="", description="folder of images; default: drawn images")
    category: str = Field(
        default="",
        description="category of detector and images, needed with --models; default: none",
    )
    preset: PresetName = Field(default="laptop", description="size of the random detector")
    limit: int = Field(default=100, ge=1, description="largest number of images")
    batch_size: int = Field(default=16, ge=1, description="images in one pass through the networks")
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the networks; default: one per core"
    )
    precision: PrecisionName | None = Field(
        default=None,
        description="number format in which the networks compute, to compare both; default: the "
        "detector's own",
    )


class ResampleBench(BenchOptions):
    """Compare the resampling with the algorithms raster and jump: passes, times, equal codes."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench resample")
    example = "--models models --category bottle --archive data/mvtec/bottle/test"

    raster_cells: int = Field(
        default=50,
        ge=1,
        description="cells per image on which raster is timed; its time is scaled up to all cells",
    )


class InspectBench(BenchOptions):
    """Measure images per second of each stage, of one process, and of the pipeline on Ray."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench inspect")
    example = "--models models --category bottle --archive data/mvtec/bottle/test --limit 400"

    form: FormName | None = Field(
        default=None,
        description="form of the anomaly map; a plain detector has no joined form; default: the "
        "detector's own",
    )
    source_size_px: int = Field(
        default=900, ge=16, description="width and height of drawn images, in pixels"
    )


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    commands = {
        "resample": (
            "compare the resampling with slower algorithms that must give the same codes",
            lambda rest: run("bench resample", ResampleBench, rest, resample),
        ),
        "inspect": (
            "measure images per second of each stage and of the pipeline on Ray",
            lambda rest: run("bench inspect", InspectBench, rest, inspect),
        ),
        "train": (
            "measure each stage of training and estimate the time of whole categories",
            bench_train.main,
        ),
    }
    example = f"vqad bench resample {ResampleBench.example}"
    return choose("vqad bench", commands, arguments, example=example)


def resample(options: ResampleBench) -> tuple[dict[str, Any], int]:
    """Compare the algorithms; the exit code is 1 if codes differ from the oracle's."""
    from vqad.benchmarks import inspection, resampling

    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as folder:
        detector = _detector(options)
        size_px = detector.settings.vqvae.image_size_px
        listed = _listed(options, Path(folder), size_px)
        codes = inspection.encode(
            detector, inspection.read_images(detector, listed), options.batch_size
        )
        if not options.models:
            detector = inspection.with_some_changes(detector, codes[: options.batch_size])
        found = resampling.resample(
            detector,
            codes,
            batch_size=options.batch_size,
            raster_cells=options.raster_cells,
            say=say,
        )
    return found, 0 if found["identical"] else 1


def inspect(options: InspectBench) -> tuple[dict[str, Any], int]:
    """Time the stages and the pipeline; one process is timed before and after the pipeline."""
    from vqad.benchmarks import inspection

    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as name:
        folder = Path(name)
        detector = inspection.in_form(_detector(options), options.form)
        listed = _listed(options, folder, options.source_size_px)
        if not options.models:
            few = inspection.read_images(detector, listed[: options.batch_size])
            detector = inspection.with_some_changes(
                detector, inspection.encode(detector, few, len(few))
            )
        size = options.batch_size
        some = listed[: max(NUM_FOR_STAGES, 2 * size)]
        inspection.whole(detector, listed[:size], batch_size=size)  # to warm up
        stages, flops = inspection.stages(detector, some, batch_size=size)
        before = inspection.whole(detector, listed, batch_size=size)
        on_ray = _pipeline(options, detector, listed, folder) if _has_ray() else None
        after = inspection.whole(detector, listed, batch_size=size)
    rates = {name: len(some) / seconds for name, seconds in stages.items() if seconds}
    both = {name: (seconds + after[name]) / 2 for name, seconds in before.items()}
    wholes = {
        "detector": len(listed) / both["inspect"],
        "in_process": len(listed) / sum(both.values()),
    }
    found = _summary(len(listed), rates, wholes, flops, detector)
    if on_ray is None:
        say("pipeline: not measured, because Ray is not installed; install the package ray[data]")
        return found, 0
    return found | _summary_on_ray(len(listed), *on_ray, in_process=wholes["in_process"]), 0


def _detector(options: BenchOptions) -> Any:
    import torch

    from vqad.model.bfloat16 import computed_by

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    detector = _loaded(options).to(device)
    if options.precision:
        detector = detector.with_settings(precision=options.precision)
    say(f"number format: {computed_by(detector.settings.precision, detector.device)}")
    return detector


def _loaded(options: BenchOptions) -> Any:
    from vqad.benchmarks import inspection
    from vqad.detector import Detector

    if not options.models:
        say(
            f"a random detector of preset {options.preset}: it takes as long as a fitted one, but "
            "its numbers of changed codes mean little; give --models and --category"
        )
        return inspection.random_detector(options.preset)
    if not options.category:
        raise UsageError("--models needs --category, the category of the detector to measure")
    return Detector.load(options.models, options.category)


def _listed(options: BenchOptions, folder: Path, size_px: int) -> list[Any]:
    """Images of the archive; without one, as many copies of drawn images as the limit asks for."""
    from vqad import synthetic
    from vqad.images import listing
    from vqad.storage import files

    if options.archive:
        return listing.list_images(options.archive, limit=options.limit)
    num_drawn = min(options.limit, 16)
    synthetic.draw_archive(
        folder / "drawn",
        categories=["ampoule"],
        size_px=size_px,
        num_train=0,
        num_good=num_drawn - num_drawn // 2,
        num_defect=num_drawn // 2,
    )
    (folder / "archive").mkdir()
    pictures = listing.list_images(str(folder / "drawn"))
    for at in range(options.limit):
        data = files.read_bytes(pictures[at % num_drawn].image, max_bytes=2**30)
        (folder / "archive" / f"{at:05}.png").write_bytes(data)
    return listing.list_images(str(folder / "archive"))


def _pipeline(
    options: InspectBench, detector: Any, listed: list[Any], folder: Path
) -> tuple[float, float]:
    """Seconds of a run over one image, which is start-up, and of a run over all images.

    The second run contains a part of the start-up: only some of the workers run already.
    """
    from vqad.images.routing import Routing
    from vqad.inspection.job import InspectJob
    from vqad.inspection.plan import make_plan
    from vqad.on_ray import inspect as on_ray
    from vqad.on_ray import session

    models = str(folder / "models")
    detector.save(models)
    job = InspectJob(
        archive=options.archive or str(folder / "archive"),
        models=models,
        output="",
        routing=Routing(category=detector.settings.category),
        batch_size=options.batch_size,
    )
    seconds = []
    with session.connected():
        for at, limit in enumerate((1, len(listed))):
            one = replace(job, output=str(folder / f"output-{at}"), limit=limit)
            start_s = time.monotonic()
            on_ray.inspect(one, make_plan(one), say)
            seconds.append(time.monotonic() - start_s)
    return seconds[0], seconds[1]


def _has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


def _summary(
    num_images: int,
    rates: dict[str, float],
    wholes: dict[str, float],
    flops: float,
    detector: Any,
) -> dict[str, Any]:
    from vqad.benchmarks import machine

    machine_flops = machine.matrix_product_flops()
    for name, rate in rates.items():
        say(f"{name:20}{rate:10.1f} images/s alone")
    for name, note in (
        ("detector", "Detector.inspect on decoded images"),
        ("in_process", "fetching, decoding and inspecting in one process"),
    ):
        say(f"{name:20}{wholes[name]:10.1f} images/s {note}")
    return {
        "images": num_images,
        "precision": detector.settings.precision,
        "images_per_s": {name: round(rate, 2) for name, rate in rates.items()},
        **{f"{name}_images_per_s": round(rate, 2) for name, rate in wholes.items()},
        "peak_bytes": machine.peak_bytes(),
        "matrix_product_gflops": round(machine_flops / 1e9, 1),
        "model_share_of_matrix_product": round(flops / machine_flops, 3),
    }


def _summary_on_ray(
    num_images: int, start_up_s: float, seconds: float, *, in_process: float
) -> dict[str, Any]:
    rate = num_images / seconds
    say(
        f"{'pipeline':20}{rate:10.1f} images/s on Ray from start to end; one image takes "
        f"{start_up_s:.1f} s"
    )
    return {
        "pipeline_images_per_s": round(rate, 2),
        "pipeline_share": round(rate / in_process, 3),
        "start_up_seconds": round(start_up_s, 1),
    }
