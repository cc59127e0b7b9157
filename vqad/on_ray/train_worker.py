"""The function that Ray Train runs on every worker of a category: read, fit, calibrate, save.

Checkpoints of both stages go to the run's storage at intervals. A worker that is started again, by
Ray or by the same command, resumes from the last registered checkpoint.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from torch import distributed

from vqad.images import listing
from vqad.images.roi import RegionOfInterest
from vqad.on_ray import failures
from vqad.on_ray.checkpoint_folder import CheckpointFolder
from vqad.on_ray.resources import Resources
from vqad.training import curves, data_parallel, dataset, promise, provenance
from vqad.training.category import Training
from vqad.training.dataset import Examples
from vqad.training.events import Event, of_record
from vqad.training.learned_tiles import TileDrawing, drawing_of
from vqad.training.loop import Record
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS
from vqad.training.tiled_category import training_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that the workers of a category need to know."""

    options: TrainOptions
    models: str  # URI
    run: str
    checkpoints: CheckpointFolder
    listed: list[listing.Listed]
    roi: RegionOfInterest | None
    reviewed: list[listing.Listed]  # confirmed false alarms; members of shards too
    fingerprint: str
    resources: Resources
    checkpoint_seconds: float
    cache_bytes: int
    promote: bool  # put the detector in force
    progress: Any  # the actor

    def say(self, line: str, stage: str = "") -> None:
        """Report a line for people, from the first worker only."""
        if data_parallel.rank() == 0:
            category = self.options.category
            event = Event(category=category, line=f"{category}: {line}", stage=stage)
            self.progress.add.remote(event)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Report the outcome, and wait until it has arrived."""
        # Ray Train's own report keeps metrics only if they come with a checkpoint.
        if data_parallel.rank() == 0:
            ray.get(self.progress.finish.remote(self.options.category, outcome))


def train_category(config: dict[str, Any]) -> None:
    """Train one category. An error that a user can mend becomes the outcome, without a retry."""
    start_s = time.monotonic()
    task: Task = config["task"]
    torch.set_num_threads(task.resources.cpus)
    try:
        training, found = _fitted(task)
        if data_parallel.rank() == 0:
            outcome = _calibrated_and_saved(task, training, found)
            seconds = round(time.monotonic() - start_s, 1)
            task.say(f"saved {outcome['version']} after {seconds:.0f} s", "saved")
            task.finish({"seconds": seconds} | outcome)
    except ValueError as error:
        task.finish({"failed": str(error)})
    except Exception as error:
        # Ray Train would give the driver prose. It may start the worker again.
        ray.get(task.progress.fail.remote(task.options.category, failures.of(error)))
        raise


def _fitted(task: Task) -> tuple[Training, Examples]:
    more = f" and {len(task.reviewed)} confirmed false alarms" * bool(task.reviewed)
    task.say(f"reading {len(task.listed)} images{more}", "reading")
    found = _read_together(task)
    for line in (*found.unreadable, *found.suspicious):
        task.say(f"left out {line}")
    if found.bits < 16:
        task.say(f"16-bit files have values of {found.bits} bits; divided by {2**found.bits - 1}")
    # Ray may have been given GPUs that do not exist, so what torch finds on this worker decides.
    on_gpu = task.resources.gpus > 0 and torch.cuda.is_available()
    device = ray.train.torch.get_device() if on_gpu else torch.device("cpu")
    training = training_of(
        found,
        task.options,
        device=device,
        reviewed={each.image for each in task.reviewed},
    )
    if training.found_kind:
        task.say(training.found_kind.describe())
    if training.found_alignment:
        task.say(training.found_alignment.describe())
    num, held_out = len(found.names), len(training.held_out_names)
    num_left_out = len(found.unreadable) + len(found.suspicious)
    task.say(f"{num} images, {held_out} of them held out, {num_left_out} left out")
    task.say(training.minimum_area.describe())
    _resume(task, training)
    saving = Checkpoints(training, task.checkpoint_seconds)
    for record in training.records():
        if data_parallel.rank() == 0:
            event = of_record(task.options.category, record, training.seconds_left(record))
            task.progress.add.remote(event)
        saving.after(record)
    return training, found


def _read_together(task: Task) -> Examples:
    """The images, read by one worker of each node. Raises ValueError on all workers."""
    size_px = PRESETS[task.options.preset].vqvae.image_size_px
    if data_parallel.num_workers() == 1:
        return dataset.read(
            task.listed,
            size_px=size_px,
            resize=task.options.known_resize,
            roi=task.roi,
            reviewed=task.reviewed,
            in_memory_bytes=task.cache_bytes,
            drawing=_drawing(task, size_px),
        )
    with tempfile.TemporaryDirectory(prefix="vqad-") as folder:
        gathered = _gather(_read_for_node(task, size_px, Path(folder)))
        failed = [each["failed"] for each in gathered if "failed" in each]
        if failed:
            raise ValueError(failed[0])
        node = ray.train.get_context().get_node_rank()
        (ours,) = (each for each in gathered if each.get("node") == node)
        pixels: np.ndarray = dataset.mapped(Path(ours["folder"]), ours["shape"], ours["dtype"])
        if pixels.nbytes <= task.cache_bytes:
            pixels = np.array(pixels)
        _gather({})  # a barrier: a folder must not be removed before all workers have mapped it
    examples: Examples = ours["found"]
    return replace(examples, pixels=pixels)


def _drawing(task: Task, size_px: int) -> TileDrawing | None:
    return drawing_of(task.options, size_px=size_px, num_images=len(task.listed))


def _read_for_node(task: Task, size_px: int, folder: Path) -> dict[str, Any]:
    context = ray.train.get_context()
    if context.get_local_rank() > 0:
        return {}
    try:
        found = dataset.read(
            task.listed,
            size_px=size_px,
            resize=task.options.known_resize,
            roi=task.roi,
            reviewed=task.reviewed,
            in_memory_bytes=0,
            folder=folder,
            drawing=_drawing(task, size_px),
        )
    except ValueError as error:
        return {"failed": str(error)}
    return {
        "node": context.get_node_rank(),
        "folder": str(folder),
        "shape": found.pixels.shape,
        "dtype": found.pixels.dtype.name,
        "found": replace(found, pixels=np.empty(0)),  # the others map the file
    }


def _gather(mine: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of all workers, on all workers."""
    gathered: list[dict[str, Any]] = [{}] * data_parallel.num_workers()
    distributed.all_gather_object(gathered, mine)
    return gathered


def _resume(task: Task, training: Training) -> None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        try:
            state = torch.load(Path(folder) / Checkpoints.FILE, weights_only=True)
            training.load(state)
        except (RuntimeError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"the checkpoint in {task.checkpoints.uri} can't be loaded ({reason}); remove that "
                "folder to start from the beginning"
            ) from error
    last = training.history[-1]
    task.say(f"resumes from {last.stage} step {last.step} of {last.num_steps}", last.stage)


class Checkpoints:
    """Saves the state of a training at intervals, and at the end of each stage."""

    FILE = "state.pt"

    def __init__(self, training: Training, interval_seconds: float) -> None:
        self.training = training
        self.interval_seconds = interval_seconds
        self.last_s = time.monotonic()

    def after(self, record: Record) -> None:
        """Save the state after this record, if a checkpoint is due."""
        passed_s = time.monotonic() - self.last_s
        is_due = record.step == record.num_steps or passed_s >= self.interval_seconds
        if data_parallel.first_says(is_due, self.training.held_out.device):
            self._save(record)
            self.last_s = time.monotonic()

    def _save(self, record: Record) -> None:
        metrics = {"stage": record.stage, "step": record.step}
        if data_parallel.rank() > 0:
            ray.train.report(metrics)  # Ray Train waits for all workers
            return
        with tempfile.TemporaryDirectory(prefix="vqad-") as folder:
            torch.save(self.training.state(), Path(folder) / self.FILE)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)


def _calibrated_and_saved(task: Task, training: Training, found: Examples) -> dict[str, Any]:
    task.say("calibrating", "calibrating")
    for line in training.warnings():
        task.say(f"warning: {line.removeprefix(f'{task.options.category}: ')}")
    detector = training.detector()
    record = replace(
        detector.settings.found,
        run=task.run,
        data_fingerprint=task.fingerprint,
        unreadable=found.unreadable,
        suspicious=found.suspicious,
        made_with=provenance.made_with(training.held_out.device, data_parallel.num_workers()),
    )
    detector = detector.with_settings(found=record)
    beside = curves.beside(training.history, f"{task.options.category}, {task.options.preset}")
    version = detector.to("cpu").save(
        task.models, beside, promote=task.promote, why=f"vqad train, run {task.run}"
    )
    return {
        "version": version,
        "codes_used": training.codes_used,
        "threshold": detector.settings.threshold,
        "eta": detector.settings.resample.eta,
        "images": len(training.names),
        "held_out": len(training.held_out_names),
        "unreadable": len(found.unreadable),
        **promise.outcome_of(detector.settings),
    }
