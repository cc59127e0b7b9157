"""Train one detector per category, several categories at the same time.

Each category is a Ray task that contains a Ray Train run. The task takes no CPU itself, so that
any number of tasks can wait for workers. Categories above the number that fits wait in a queue of
the driver. If a category fails, its message is in the summary, and the others continue.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from vqad.detection import saved_detector, versions
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import listing
from vqad.inspection import stored_reviews
from vqad.on_ray import event_log, failures, resources, train_worker
from vqad.on_ray.checkpoint_folder import CheckpointFolder
from vqad.on_ray.failures import Failure
from vqad.on_ray.resources import Resources
from vqad.storage import traceback_file, uris
from vqad.storage.errors import VqadError
from vqad.training import dataset, promise, regions
from vqad.training.events import Event, Show
from vqad.training.good_images import LayoutError, good_images
from vqad.training.job import TrainJob
from vqad.training.options import TrainOptions
from vqad.training.recalibrate import recalibrate

# A guess: how often the workers of a category are restarted, each time from the last checkpoint,
# before it counts as failed. Restarts after an announced removal of a node are not counted.
MOST_FAILURES = 8

# What to do where the memory is too small.
FEWER = "give a smaller --max-concurrent"


@dataclass(kw_only=True)
class TrainSummary:
    """The outcome of every category."""

    trained: list[str] = field(default_factory=list)
    calibrated: list[str] = field(default_factory=list)  # with ``only="calibrate"``
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    categories: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, category: str, outcome: dict[str, Any]) -> Event:
        """Add the outcome of a category; returns it as an event."""
        if "failed" in outcome:
            self.failed[category] = _with_traceback(outcome)
            line = f"failed: {category}: {self.failed[category]}"
            return Event(category=category, line=line, stage="failed")
        if outcome.pop("skipped", False):
            self.skipped.append(category)
            return Event(
                category=category, line=f"{category}: has its detector already", stage="skipped"
            )
        done = "calibrated" if outcome.pop("calibrated", False) else "trained"
        getattr(self, done).append(category)
        self.categories[category] = outcome
        line = "; ".join(filter(None, [f"{category}: {done}", promise.sentence(outcome)]))
        return Event(category=category, line=line, stage="done")


def _with_traceback(outcome: dict[str, Any]) -> str:
    """Why a category failed, and where its traceback is if there is one."""
    written = traceback_file.write(outcome["traceback"], "train") if "traceback" in outcome else ""
    return outcome["failed"] + (f"; traceback in {written}" if written else "")


def train(job: TrainJob, show: Show) -> TrainSummary:
    """Fit all categories of a job, or only calibrate them. Ray must be connected."""
    start_s = time.monotonic()
    summary = TrainSummary()
    shares = _shares(job)
    if shares.missing():
        show(Event(category=job.options[0].category, line=shares.missing()))
    events = event_log.begin()
    waiting, running = deque(job.options), dict[ray.ObjectRef, str]()
    while waiting or running:
        while waiting and len(running) < shares.num_concurrent:
            options = waiting.popleft()
            running[_start(job, options, shares, events)] = options.category
        done, _ = ray.wait(list(running), timeout=1)
        for event in ray.get(events.take.remote()):
            show(event)
        for task in done:
            category = running.pop(task)
            show(summary.add(category, _outcome(task)))
    summary.seconds = round(time.monotonic() - start_s, 1)
    return summary


def check(job: TrainJob) -> None:
    """Raise NoPlaceError where a private Ray can never place a category's workers."""
    _shares(job).check()


def _shares(job: TrainJob) -> Resources:
    return resources.share(
        len(job.options),
        num_workers=1 if job.only else job.workers_per_category,
        gpus_per_category=job.gpus_per_category,
        max_concurrent=job.max_concurrent,
    )


def _start(job: TrainJob, options: TrainOptions, shares: Resources, events: Any) -> Any:
    if job.only:
        remote: Any = ray.remote(
            num_cpus=shares.cpus, num_gpus=shares.gpus, max_retries=MOST_FAILURES
        )
        task: Any = remote(recalibrate)
        return task.remote(
            job.data, job.models, options, cpus=shares.cpus, gpus=shares.gpus, promote=job.promote
        )
    # On the driver's node, so that the loss of another node ends only workers.
    here: Any = event_log.here()
    # The worker process ends with the task, and with it whatever Ray Train has started in it.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=2, scheduling_strategy=here)(
        _train_category
    )
    return task.remote(job, options, shares, events)


def _outcome(task: "ray.ObjectRef[dict[str, Any]]") -> dict[str, Any]:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return _failed(failures.of_ray(error, FEWER))


def _train_category(
    job: TrainJob, options: TrainOptions, shares: Resources, events: Any
) -> dict[str, Any]:
    try:
        listed = good_images(job.data, options.category, options.good_pattern)
    except LayoutError as error:
        return {"failed": str(error)}
    if not listed:
        return {"failed": f"no images in {uris.join(job.data, options.category)}"}
    try:
        roi = regions.checked(job.data, options)
        reviewed = _reviewed(job, options.category, listed, events)
    except VqadError as error:
        return {"failed": str(error)}
    fingerprint = dataset.fingerprint([*listed, *reviewed], digest=regions.digest(roi))
    checkpoints = CheckpointFolder.of(job.models, job.run_name, options, fingerprint)
    if _is_finished(job, options.category, fingerprint):
        # Left over if a kill came after the detector was saved; a redo must not resume from it.
        checkpoints.remove()
        if not job.redo:
            return {"skipped": True}
    task = train_worker.Task(
        options=options,
        models=job.models,
        run=job.run_name,
        checkpoints=checkpoints,
        listed=listed,
        reviewed=reviewed,
        roi=roi,
        fingerprint=fingerprint,
        resources=shares,
        checkpoint_seconds=job.checkpoint_seconds,
        cache_bytes=job.cache_bytes,
        promote=job.promote,
        progress=events,
    )
    if checkpoints.mend():
        task.say("the registry of its checkpoints is damaged; training starts from the beginning")
    try:
        _trainer(task).fit()
    except ray.train.TrainingFailedError as error:
        return _failed(_cause(error, ray.get(events.failure.remote(options.category))))
    outcome: dict[str, Any] = ray.get(events.outcome.remote(options.category))
    if "failed" not in outcome:
        checkpoints.remove()
    return outcome


def _reviewed(
    job: TrainJob, category: str, listed: Sequence[listing.Listed], events: Any
) -> list[listing.Listed]:
    """Confirmed false alarms of the category that are not among its good images anyway."""
    if not job.reviews:
        return []

    def say(line: str) -> None:
        events.add.remote(Event(category=category, line=f"{category}: {line}"))

    known = {each.image for each in listed}
    found = stored_reviews.false_alarms(job.reviews, category, say)
    return [each for each in found if each.image not in known]


def _trainer(task: train_worker.Task) -> TorchTrainer:
    shares = task.resources
    filesystem, path = task.checkpoints.storage()
    return TorchTrainer(
        train_worker.train_category,
        train_loop_config={"task": task},
        scaling_config=ScalingConfig(
            num_workers=shares.num_workers,
            use_gpu=shares.gpus > 0,
            resources_per_worker=shares.of_worker,
        ),
        torch_config=_torch_config(shares),
        run_config=RunConfig(
            name=task.checkpoints.name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
        ),
    )


class _Alone(TorchConfig):
    """The configuration of a single worker, which needs no process group.

    The store of a process group would listen on all addresses of the machine, without a token.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """A backend that does nothing."""
        return Backend


def _torch_config(shares: Resources) -> TorchConfig:
    """How a category's workers send messages to each other."""
    if shares.num_workers == 1:
        return _Alone()
    # NCCL refuses two workers on one GPU. None leaves the choice to Ray.
    return TorchConfig(backend=None if shares.gpus in (0, 1) else "gloo")


def _failed(failure: Failure) -> dict[str, Any]:
    return {"failed": failure.reason, "traceback": failure.traceback}


def _cause(error: ray.train.TrainingFailedError, noted: Failure | None) -> Failure:
    """What ended a category: what its worker noted, else what Ray found of the worker."""
    found = next(iter(getattr(error, "worker_failures", {}).values()), error)
    if isinstance(found, ray.exceptions.RayError):  # the worker had no time to note anything
        return failures.of_ray(found, FEWER)
    return noted or failures.of_other(found)


def _is_finished(job: TrainJob, category: str, fingerprint: str) -> bool:
    """True if the run's detector is there: in force, or saved if it is not to be promoted."""
    saved = [""] if job.promote else versions.version_names(job.models, category)[::-1]
    return any(_is_of(job, category, version, fingerprint) for version in saved)


def _is_of(job: TrainJob, category: str, version: str, fingerprint: str) -> bool:
    """True if a version, "" for the one in force, can be loaded and is this run's."""
    try:
        if version:  # first without the weights: there may be many versions
            found = saved_detector.load_settings(job.models, category, version).found
            if (found.run, found.data_fingerprint) != (job.run_name, fingerprint):
                return False
        found = Detector.load(job.models, category, version=version).settings.found
    except DetectorError:
        return False
    return (found.run, found.data_fingerprint) == (job.run_name, fingerprint)
