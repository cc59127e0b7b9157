"""Training one detector per category, side by side.

One Ray task a category, holding one Ray Train run. The task takes no CPU of its own, so that any
number can wait for workers. A category that fails ends with its own message in the summary, while
the others go on.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow.fs
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from vqad import archives, images
from vqad.detector import Detector
from vqad.fitting import Record
from vqad.on_ray import session
from vqad.presets import PRESETS
from vqad.stored import DetectorError
from vqad.train import Training, TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All of one `vqad train`."""

    data: str  # URI; DATA/CATEGORY/train/good/* or DATA/CATEGORY/*
    models: str  # URI
    options: Sequence[TrainOptions]  # one a category
    run: str  # "" derives it from all that shapes the detectors
    redo: bool = False
    max_concurrent: int | None = None  # None: as many as there are GPUs, or CPUs without any
    gpus_per_category: float | None = None  # None: one where the cluster has any, else none

    def __post_init__(self) -> None:
        """Refuse sizes that could never start."""
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, got {self.max_concurrent}")
        if self.gpus_per_category is not None and self.gpus_per_category < 0:
            raise ValueError(
                f"gpus_per_category must not be negative, got {self.gpus_per_category}"
            )

    @property
    def run_name(self) -> str:
        """Name of the run: the given one, or a hash of data, categories, preset and settings."""
        shaping = [self.data, [asdict(each) for each in self.options]]
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
        return self.run or f"run-{digest[:12]}"


@dataclass(kw_only=True)
class TrainSummary:
    """What became of every category."""

    trained: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    categories: dict[str, dict[str, Any]] = field(default_factory=dict)


def categories_in(data: str) -> list[str]:
    """Names of the folders below ``data`` that hold images to learn from."""
    names = archives.list_names(data)
    found = [name for name in names if not name.startswith(".") and good_images(data, name)]
    if not found:
        raise ValueError(
            f"no images to learn from in {data}; expected DATA/CATEGORY/train/good/* "
            "or DATA/CATEGORY/*"
        )
    return found


def good_images(data: str, category: str) -> list[archives.Listed]:
    """What a category is learned from: DATA/CATEGORY/train/good/*, else DATA/CATEGORY/*."""
    folder = archives.join(data, category)
    try:
        children = archives.list_names(folder)
        if "train" in children:
            folder = archives.join(folder, "train", "good")
        return list(archives.list_images(folder))
    except (archives.ArchiveError, NotADirectoryError):
        return []


def train(job: TrainJob, say: Callable[[str], None]) -> TrainSummary:
    """Fit all categories of a job; ``say`` takes lines of progress. Needs a connected Ray."""
    start_s = time.monotonic()
    summary = TrainSummary()
    progress: Any = ray.remote(num_cpus=0)(Progress).remote()
    train_category: Any = ray.remote(num_cpus=0, max_retries=2)(_train_category)
    waiting = list(job.options)
    running: dict[ray.ObjectRef, str] = {}
    resources = _resources(job)
    while waiting or running:
        while waiting and len(running) < resources.num_concurrent:
            options = waiting.pop(0)
            task = train_category.remote(job, options, resources, progress)
            running[task] = options.category
        done, _ = ray.wait(list(running), timeout=2)
        for line in ray.get(progress.take.remote()):
            say(line)
        for task in done:
            _note(summary, running.pop(task), task)
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


def _note(summary: TrainSummary, category: str, task: "ray.ObjectRef[dict[str, Any]]") -> None:
    try:
        outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        summary.failed[category] = session.reason(error)
        return
    if "failed" in outcome:
        summary.failed[category] = outcome["failed"]
    elif outcome.pop("skipped", False):
        summary.skipped.append(category)
    else:
        summary.trained.append(category)
        summary.categories[category] = outcome


@dataclass(frozen=True, kw_only=True)
class _Resources:
    """What each category's worker gets."""

    num_concurrent: int
    cpus: int
    gpus: float


def _resources(job: TrainJob) -> _Resources:
    gpus = job.gpus_per_category
    if gpus is None:
        gpus = 1.0 if session.num_gpus() >= 1 else 0.0
    fit = int(session.num_gpus() / gpus) if gpus else session.num_cpus()
    num_concurrent = max(1, min(fit, len(job.options), job.max_concurrent or fit))
    cpus = max(1, session.num_cpus() // num_concurrent)
    return _Resources(num_concurrent=num_concurrent, cpus=cpus, gpus=gpus)


class Progress:
    """What the workers have to say, kept until the driver asks for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.outcomes: dict[str, dict[str, Any]] = {}

    def add(self, line: str) -> None:
        """A line for a person."""
        self.lines.append(line)

    def take(self) -> list[str]:
        """The lines since the last time."""
        lines, self.lines = self.lines, []
        return lines

    def finish(self, category: str, outcome: dict[str, Any]) -> None:
        """Note how a category ended."""
        self.outcomes[category] = outcome

    def outcome(self, category: str) -> dict[str, Any]:
        """How it ended."""
        return self.outcomes[category]


def _train_category(
    job: TrainJob, options: TrainOptions, resources: _Resources, progress: Any
) -> dict[str, Any]:
    listed = good_images(job.data, options.category)
    if not listed:
        return {"failed": f"no images in {archives.join(job.data, options.category)}"}
    fingerprint = _fingerprint(listed)
    if not job.redo and _is_finished(job, options.category, fingerprint):
        return {"skipped": True}
    storage = archives.join(job.models, ".runs", job.run_name)
    filesystem, path = pyarrow.fs.FileSystem.from_uri(archives.absolute(storage))
    trainer = TorchTrainer(
        _fit_worker,
        train_loop_config={
            "job": job,
            "options": options,
            "listed": listed,
            "fingerprint": fingerprint,
            "num_threads": resources.cpus,
            "progress": progress,
        },
        scaling_config=ScalingConfig(
            num_workers=1,
            use_gpu=resources.gpus > 0,
            resources_per_worker=_per_worker(resources),
        ),
        # A name of its own each time: a finished run of the same name would be taken for this.
        run_config=RunConfig(
            name=f"{options.category}-{time.time_ns():x}",
            storage_path=path,
            storage_filesystem=filesystem,
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        return {"failed": _cause(error)}
    return ray.get(progress.outcome.remote(options.category))


def _per_worker(resources: _Resources) -> dict[str, float]:
    wanted: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        wanted["GPU"] = resources.gpus
    return wanted


def _cause(error: ray.train.TrainingFailedError) -> str:
    failures = list(getattr(error, "worker_failures", {}).values())
    cause = failures[0] if failures else error
    return f"{type(cause).__name__}: {session.reason(cause)}"


def _fingerprint(listed: Sequence[archives.Listed]) -> str:
    rows = [(each.image, each.size_bytes, each.etag) for each in listed]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _is_finished(job: TrainJob, category: str, fingerprint: str) -> bool:
    try:
        found = Detector.load(job.models, category).settings.found
    except DetectorError:
        return False
    return (found.get("run"), found.get("data_fingerprint")) == (job.run_name, fingerprint)


def _fit_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs: read, fit, calibrate, save, report."""
    start_s = time.monotonic()
    options: TrainOptions = config["options"]
    job: TrainJob = config["job"]
    torch.set_num_threads(config["num_threads"])
    tell = config["progress"].add.remote
    try:
        detector, training = _fit(config, tell)
    except ValueError as error:
        # For the user to mend, so asking again would not help.
        _finish(config, {"failed": str(error)})
        return
    detector.settings.found.update(run=job.run_name, data_fingerprint=config["fingerprint"])
    version = detector.to("cpu").save(job.models)
    seconds = round(time.monotonic() - start_s, 1)
    tell(f"{options.category}: saved {version} after {seconds:.0f} s")
    _finish(
        config,
        {
            "seconds": seconds,
            "version": version,
            "codes_used": training.codes_used,
            "threshold": detector.settings.threshold,
            "eta": detector.settings.resample.eta,
            "images": len(training.learned_from) + len(training.held_out),
            "held_out": len(training.held_out),
        },
    )


def _finish(config: dict[str, Any], outcome: dict[str, Any]) -> None:
    # Not through Ray Train's own report, which keeps metrics only where a checkpoint comes along.
    ray.get(config["progress"].finish.remote(config["options"].category, outcome))


def _fit(config: dict[str, Any], tell: Callable[[str], Any]) -> tuple[Detector, Training]:
    options: TrainOptions = config["options"]
    names, pixels, unreadable = read_pixels(config["listed"], options.preset)
    for line in unreadable:
        tell(f"{options.category}: left out {line}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = Training(names, pixels, options, device=device)
    tell(f"{options.category}: {len(names)} images, {len(training.held_out)} of them held out")
    for record in training.records():
        tell(f"{options.category}: {describe(record)}")
    for line in training.warnings():
        tell(f"warning: {line}")
    return training.detector(), training


def describe(record: Record) -> str:
    """One record as a line."""
    line = f"{record.stage} step {record.step} of {record.num_steps}, loss {record.loss:.4f}, "
    if record.stage == "vqvae":
        line += f"held-out error {record.held_out:.4f}, {record.codes_used} codes in use "
        line += f"(perplexity {record.perplexity:.0f})"
    elif record.stage == "prior":
        line += f"held-out {record.held_out:.3f} nats a code"
    else:
        line += f"held-out loss {record.held_out:.4f}"
    return f"{line}, {record.images_per_s:.1f} images/s"


def read_pixels(
    listed: Sequence[archives.Listed], preset: str
) -> tuple[list[str], np.ndarray, list[str]]:
    """Names, pixels (num, size, size, 3) and what was left out and why. Raises ValueError."""
    size_px = PRESETS[preset].vqvae.image_size_px
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: _read(each, size_px), listed))
    pictures = [
        (each.image, one)
        for each, one in zip(listed, found, strict=True)
        if not isinstance(one, str)
    ]
    unreadable = [
        f"{each.image}: {one}"
        for each, one in zip(listed, found, strict=True)
        if isinstance(one, str)
    ]
    if not pictures:
        raise ValueError(f"none of {len(listed)} images can be read; the first: {unreadable[0]}")
    return [name for name, _ in pictures], images.stack([one for _, one in pictures]), unreadable


def _read(listed: archives.Listed, size_px: int) -> np.ndarray | str:
    try:
        data = archives.read_bytes(listed.image, max_bytes=images.MAX_BYTES)
        return images.decode(data, size_px=size_px).pixels
    except (archives.FetchError, images.ImageError) as error:
        return f"{error.error}: {error.detail}"
