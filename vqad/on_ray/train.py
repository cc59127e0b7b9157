"""Training one detector per category, side by side.

One Ray task a category, holding one Ray Train run. The task takes no CPU of its own, so that any
number can wait for workers; those of more categories than fit wait in a queue of the driver's. A
category that fails ends with its own message in the summary, while the others go on.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.on_ray import event_log, resources, session, train_worker
from vqad.on_ray.checkpoint_folder import CheckpointFolder
from vqad.on_ray.resources import Resources
from vqad.storage import uris
from vqad.training import dataset
from vqad.training.events import Event, Show
from vqad.training.options import TrainJob, TrainOptions
from vqad.training.recalibrate import recalibrate

# A guess: restarts of one category's workers, each from the last checkpoint, before it has failed.
# Those of nodes that were taken away with notice are not counted.
MOST_FAILURES = 8


@dataclass(kw_only=True)
class TrainSummary:
    """What became of every category."""

    trained: list[str] = field(default_factory=list)
    calibrated: list[str] = field(default_factory=list)  # with ``only``
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    categories: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, category: str, outcome: dict[str, Any]) -> Event:
        """Note how a category ended; returns it as an event."""
        if "failed" in outcome:
            self.failed[category] = outcome["failed"]
            line = f"failed: {category}: {outcome['failed']}"
            return Event(category=category, line=line, stage="failed")
        if outcome.pop("skipped", False):
            self.skipped.append(category)
            return Event(category=category, line=f"{category}: has its detector", stage="skipped")
        done = "calibrated" if outcome.pop("calibrated", False) else "trained"
        getattr(self, done).append(category)
        self.categories[category] = outcome
        return Event(category=category, line=f"{category}: {done}", stage="done")


def train(job: TrainJob, show: Show) -> TrainSummary:
    """Fit, or only calibrate, all categories of a job. Needs a connected Ray."""
    start_s = time.monotonic()
    summary = TrainSummary()
    shares = resources.share(
        len(job.options),
        num_workers=1 if job.only else job.workers_per_category,
        gpus_per_category=job.gpus_per_category,
        max_concurrent=job.max_concurrent,
    )
    if shares.missing():
        show(Event(category=job.options[0].category, line=shares.missing()))
    told = event_log.begin()
    waiting, running = deque(job.options), dict[ray.ObjectRef, str]()
    while waiting or running:
        while waiting and len(running) < shares.num_concurrent:
            options = waiting.popleft()
            running[_start(job, options, shares, told)] = options.category
        done, _ = ray.wait(list(running), timeout=1)
        for event in ray.get(told.take.remote()):
            show(event)
        for task in done:
            category = running.pop(task)
            show(summary.add(category, _outcome(task)))
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


def _start(job: TrainJob, options: TrainOptions, shares: Resources, told: Any) -> Any:
    if job.only:
        remote: Any = ray.remote(
            num_cpus=shares.cpus, num_gpus=shares.gpus, max_retries=MOST_FAILURES
        )
        task: Any = remote(recalibrate)
        return task.remote(job.data, job.models, options, cpus=shares.cpus, gpus=shares.gpus)
    # Beside the driver, so that only workers go with a node that is lost.
    here: Any = event_log.here()
    # Its worker ends with it, and with that whatever Ray Train has started there.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=2, scheduling_strategy=here)(
        _train_category
    )
    return task.remote(job, options, shares, told)


def _outcome(task: "ray.ObjectRef[dict[str, Any]]") -> dict[str, Any]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return {"failed": session.reason(error)}


def _train_category(
    job: TrainJob, options: TrainOptions, shares: Resources, told: Any
) -> dict[str, Any]:
    listed = dataset.good_images(job.data, options.category)
    if not listed:
        return {"failed": f"no images in {uris.join(job.data, options.category)}"}
    fingerprint = dataset.fingerprint(listed)
    kept = CheckpointFolder.of(job.models, job.run_name, options, fingerprint)
    if _is_finished(job, options.category, fingerprint):
        # What a kill behind the saving left, or what to redo must not go on from.
        kept.remove()
        if not job.redo:
            return {"skipped": True}
    task = train_worker.Task(
        options=options,
        models=job.models,
        run=job.run_name,
        kept=kept,
        listed=listed,
        fingerprint=fingerprint,
        resources=shares,
        checkpoint_seconds=job.checkpoint_seconds,
        cache_bytes=job.cache_bytes,
        progress=told,
    )
    if kept.mend():
        task.tell("the registry of its checkpoints is broken; it begins anew")
    try:
        _trainer(task).fit()
    except ray.train.TrainingFailedError as error:
        return {"failed": _cause(error)}
    outcome: dict[str, Any] = ray.get(told.outcome.remote(options.category))
    if "failed" not in outcome:
        kept.remove()
    return outcome


def _trainer(task: train_worker.Task) -> TorchTrainer:
    shares = task.resources
    filesystem, path = task.kept.storage()
    return TorchTrainer(
        train_worker.train_category,
        train_loop_config={"task": task},
        scaling_config=ScalingConfig(
            num_workers=shares.num_workers,
            use_gpu=shares.gpus > 0,
            resources_per_worker=shares.of_worker,
        ),
        torch_config=TorchConfig(backend=_backend(shares)),
        run_config=RunConfig(
            name=task.kept.name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
        ),
    )


def _backend(shares: Resources) -> str | None:
    """What the workers of a category talk through; None leaves the choice to Ray."""
    # One alone talks to nobody, and may have no NCCL; which refuses two workers on one GPU.
    is_alone, share_one = shares.num_workers == 1, shares.gpus not in (0, 1)
    return "gloo" if is_alone or share_one else None


def _cause(error: ray.train.TrainingFailedError) -> str:
    failures = list(getattr(error, "worker_failures", {}).values())
    cause = failures[0] if failures else error
    return f"{type(cause).__name__}: {session.reason(cause)}"


def _is_finished(job: TrainJob, category: str, fingerprint: str) -> bool:
    try:
        found = Detector.load(job.models, category).settings.found
    except DetectorError:
        return False
    return (found.run, found.data_fingerprint) == (job.run_name, fingerprint)
