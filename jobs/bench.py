"""How fast this machine is, and against what."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs import bench_train
from jobs.command import Options, Uri, run, say

# Images that the stages are timed on alone; the wholes are timed on all.
NUM_FOR_STAGES = 64


class BenchOptions(Options):
    """Where detector and images come from."""

    models: Uri = Field(
        default="", description="URI of the folder with the detectors; a random one by default"
    )
    archive: Uri = Field(default="", description="URI of images; drawn ones by default")
    category: str = Field(default="", description="of detector and images; needed with --models")
    preset: Literal["paper", "laptop", "tiny"] = Field(
        default="laptop", description="sizes of the random detector"
    )
    limit: int = Field(default=100, ge=1, description="images at most")
    batch_size: int = Field(default=16, ge=1, description="images in one pass of the networks")
    num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the networks; all cores by default"
    )


class ResampleBench(BenchOptions):
    """The detector's resampling against raster and jump: passes, times, and whether codes agree."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench resample")

    raster_cells: int = Field(
        default=50, ge=1, description="cells of each image that raster is timed on, made up to all"
    )


class InspectBench(BenchOptions):
    """Images a second of every stage, of one process, and of the pipeline on Ray."""

    model_config = SettingsConfigDict(cli_prog_name="vqad bench inspect")

    form: Literal["plain", "joined"] | None = Field(
        default=None,
        description="of the anomaly map; the detector's own by default. A plain detector has no "
        "joined form",
    )
    source_size_px: int = Field(default=900, ge=16, description="width and height of drawn images")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    kind, *rest = arguments or [""]
    if kind == "resample":
        return run("bench resample", ResampleBench, rest, resample)
    if kind == "inspect":
        return run("bench inspect", InspectBench, rest, inspect)
    if kind == "train":
        return bench_train.main(rest)
    say("usage: vqad bench resample|inspect|train [OPTIONS]; vqad bench resample --help")
    return 0 if kind in ("-h", "--help") else 2


def resample(options: ResampleBench) -> tuple[dict[str, Any], int]:
    """Compare the algorithms; exit code 1 where codes differ from the oracle's."""
    from vqad.benchmarks import inspection, resampling

    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as folder:
        detector = _detector(options)
        size_px = detector.settings.vqvae.image_size_px
        listed = _listed(options, Path(folder), size_px)
        codes = inspection.encode(
            detector, inspection.read_images(listed, size_px), options.batch_size
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
    """Time the stages, the whole in one process before and after, and the pipeline between."""
    from vqad.benchmarks import inspection

    with tempfile.TemporaryDirectory(prefix="vqad-bench-") as name:
        folder = Path(name)
        detector = inspection.in_form(_detector(options), options.form)
        listed = _listed(options, folder, options.source_size_px)
        if not options.models:
            size_px = detector.settings.vqvae.image_size_px
            few = inspection.read_images(listed[: options.batch_size], size_px)
            detector = inspection.with_some_changes(
                detector, inspection.encode(detector, few, len(few))
            )
        some, size = listed[:NUM_FOR_STAGES], options.batch_size
        inspection.whole(detector, listed[:size], batch_size=size)  # to warm up
        stages, flops = inspection.stages(detector, some, batch_size=size)
        before = inspection.whole(detector, listed, batch_size=size)
        start_up_s, pipeline_s = _pipeline(options, detector, listed, folder)
        after = inspection.whole(detector, listed, batch_size=size)
    rates = {name: len(some) / seconds for name, seconds in stages.items() if seconds}
    both = {name: (seconds + after[name]) / 2 for name, seconds in before.items()}
    wholes = {
        "detector": len(listed) / both["inspect"],
        "in_process": len(listed) / sum(both.values()),
        "pipeline": len(listed) / pipeline_s,
    }
    return _summary(len(listed), rates, wholes, start_up_s, flops), 0


def _detector(options: BenchOptions) -> Any:
    import torch

    from vqad.benchmarks import inspection
    from vqad.detector import Detector

    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    if not options.models:
        say(
            f"a random detector of preset {options.preset}: its times are a fitted one's, its "
            "counts of changes mean little; give --models and --category"
        )
        return inspection.random_detector(options.preset)
    if not options.category:
        raise ValueError("--models needs --category, the detector to measure")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Detector.load(options.models, options.category).to(device)


def _listed(options: BenchOptions, folder: Path, size_px: int) -> list[Any]:
    """Images of the archive, repeated where there are fewer than the limit and none were given."""
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
    """Seconds of a run over one image, which is start-up, and of one over all from start to end.

    The second is not without start-up: it begins with workers that run, for a part of it.
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


def _summary(
    num_images: int,
    rates: dict[str, float],
    wholes: dict[str, float],
    start_up_s: float,
    flops: float,
) -> dict[str, Any]:
    from vqad.benchmarks import machine

    machine_flops = machine.matrix_product_flops()
    for name, rate in rates.items():
        say(f"{name:20}{rate:10.1f} images/s alone")
    for name, note in (
        ("detector", "Detector.inspect, decoded already"),
        ("in_process", "fetched, decoded and inspected by one process"),
        ("pipeline", f"on Ray from start to end; one image takes {start_up_s:.1f} s"),
    ):
        say(f"{name:20}{wholes[name]:10.1f} images/s {note}")
    return {
        "images": num_images,
        "images_per_s": {name: round(rate, 2) for name, rate in rates.items()},
        **{f"{name}_images_per_s": round(rate, 2) for name, rate in wholes.items()},
        "pipeline_share": round(wholes["pipeline"] / wholes["in_process"], 3),
        "start_up_seconds": round(start_up_s, 1),
        "peak_bytes": machine.peak_bytes(),
        "matrix_product_gflops": round(machine_flops / 1e9, 1),
        "model_share_of_matrix_product": round(flops / machine_flops, 3),
    }
