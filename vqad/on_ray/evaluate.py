"""Evaluation on Ray: inspecting the test images, baselines and ablations, all side by side.

The tasks get images and detectors, and give scores and maps; labels stay with the driver, which
holds the maps of one method on one category at a time against them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import ray
import torch
from torch import Tensor

from vqad import ablations, archives, calibrate, evaluation, figures, images
from vqad.ablations import Looked
from vqad.baselines import LOSSES, Baseline, Loss, baseline_of, budget
from vqad.detector import Detector, Settings, current_version
from vqad.evaluation import RESAMPLING, Inspected, Measured, Truth
from vqad.fit import to_images, to_tensor
from vqad.on_ray import session
from vqad.on_ray.inspect import InspectJob
from vqad.on_ray.train import Progress, describe, good_images, read_pixels
from vqad.presets import PRESETS
from vqad.routing import Routing
from vqad.uris import encoded

_IMAGES_A_TASK = 32
_BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """All of one `vqad evaluate`, behind the inspection."""

    data: str  # URI, MVTec AD's layout
    models: str  # URI; "" where only finished tables are read
    inspected: str  # URI of the inspection's output
    output: str  # URI; fitted baselines are kept below it
    categories: Sequence[str]
    baselines: bool = False
    ablations: bool = False

    def __post_init__(self) -> None:
        """Refuse what needs detectors without any."""
        if not self.models and (self.baselines or self.ablations):
            raise ValueError("baselines and ablations need the detectors: give --models")


@dataclass(kw_only=True)
class Evaluation:
    """What came out."""

    measured: list[Measured] = field(default_factory=list)
    about: list[str] = field(default_factory=list)  # lines on what was measured
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNGs by name


def jobs_for(data: str, models: str, output: str, categories: Sequence[str]) -> list[InspectJob]:
    """One job a category, all into one folder that is named after detectors and images.

    So that verdicts of an older detector, or of other pictures, are never taken for these.
    """
    tests = {category: archives.join(data, category, "test") for category in categories}
    shaping = [
        [
            current_version(models, category),
            [[each.image, each.etag] for each in archives.list_images(tests[category])],
        ]
        for category in categories
    ]
    digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()
    folder = archives.join(output, f"inspected-{digest[:12]}")
    return [
        InspectJob(
            archive=tests[category],
            models=models,
            output=folder,
            routing=Routing(category=category),
            batch_size=_BATCH_SIZE,
        )
        for category in categories
    ]


def evaluate(job: EvaluateJob, say: Callable[[str], None]) -> Evaluation:
    """Measure every category; ``say`` takes lines of progress.

    Needs a connected Ray where the job names detectors. Raises ValueError for tables, masks or
    held-out images that are not there.
    """
    done = Evaluation()
    fitted = fit_baselines(job, say) if job.baselines else {}
    distributions, thresholds = {}, {}
    for category in job.categories:
        inspected = evaluation.read_inspected(job.data, job.inspected, category)
        shape = inspected.maps.shape[1], inspected.maps.shape[2]
        truth = evaluation.read_truth(job.data, category, inspected.images, shape)
        done.about.append(_about(category, inspected, truth, shape))
        measured = _measured(truth, inspected, category)
        done.measured.append(measured)
        say(describe_measured(measured))
        if truth.masks is not None:
            distributions[category] = evaluation.distribution(inspected.maps, truth.masks)
            thresholds[category] = inspected.threshold
        if job.models:
            done.pictures[f"figure7-{category}.png"] = _figure7(job, category, truth, inspected)
        for measured in _others(job, category, truth, inspected, fitted):
            done.measured.append(measured)
            say(describe_measured(measured))
    if distributions:
        figure6 = figures.score_distributions(distributions, thresholds)
        done.pictures["figure6.png"] = figure6
    if job.ablations:
        done.pictures["figure8.png"] = figures.ablations(done.measured)
    return done


def describe_measured(measured: Measured) -> str:
    """One line."""
    values = asdict(measured.metrics).items()
    found = ", ".join(f"{name} {value:.3f}" for name, value in values if value is not None)
    method = "" if measured.method == RESAMPLING else f", {measured.method}"
    return f"{measured.category}{method}: {found}"


def _about(category: str, inspected: Inspected, truth: Truth, shape: tuple[int, int]) -> str:
    num_defect = int(truth.is_defect.sum())
    return (
        f"{category}: detector {inspected.model_version}, {len(truth.images) - num_defect} good "
        f"and {num_defect} defective test images, {inspected.num_rejected} rejected, metrics at "
        f"{shape[1]}x{shape[0]} px."
    )


def _measured(truth: Truth, inspected: Inspected, category: str) -> Measured:
    return evaluation.measure(
        truth,
        inspected.scores,
        inspected.maps,
        category=category,
        method=RESAMPLING,
        threshold=inspected.threshold,
        num_rejected=inspected.num_rejected,
    )


def _figure7(job: EvaluateJob, category: str, truth: Truth, inspected: Inspected) -> bytes:
    chosen = evaluation.telling(truth, inspected)
    task: Any = ray.remote(num_cpus=1, num_gpus=_gpus())(_decodings)
    uris = [inspected.images[at] for _, _, at in chosen]
    pictures = ray.get(task.remote(_Ablated(job.models, category, inspected.model_version), uris))
    rows = []
    for (defect_type, name, at), (image, direct, restored) in zip(chosen, pictures, strict=True):
        file_name = inspected.images[at].rpartition("/")[2]
        score = f"{inspected.scores[at]:.1f} against {inspected.threshold:.1f}"
        rows.append(
            figures.Shown(
                caption=f"{defect_type}, {name}: {file_name}, {score}",
                image=image,
                truth=None if truth.masks is None else truth.masks[at],
                direct=direct,
                restored=restored,
                anomaly_map=inspected.maps[at],
                threshold=inspected.threshold,
            )
        )
    return figures.comparison(rows)


def _others(
    job: EvaluateJob,
    category: str,
    truth: Truth,
    inspected: Inspected,
    fitted: dict[tuple[str, Loss], str],
) -> "list[Measured]":
    """Baselines and ablations of one category, each with a threshold of its own."""
    if not (job.ablations or job.baselines):
        return []
    settings = Detector.load(job.models, category, version=inspected.model_version).settings
    held_out, _ = split(job.data, settings)
    ways: list[_Way] = [_Baselined(fitted[category, loss], loss) for loss in LOSSES if fitted]
    if job.ablations:
        ways.append(_Ablated(job.models, category, inspected.model_version))
    found = []
    for way in ways:
        calibrating = _look(way, held_out, keep_maps=False)
        testing = _look(way, inspected.images, keep_maps=True)
        for name in way.names:
            threshold = calibrate.threshold(
                _scores(calibrating.pop(name)),
                quantile=settings.found["options"]["threshold_quantile"],
                smallest=ablations.smallest_threshold(name),
            )
            parts = ray.get(testing.pop(name))
            found.append(
                evaluation.measure(
                    truth,
                    np.concatenate([scores for scores, _ in parts]),
                    None if parts[0][1] is None else np.concatenate([maps for _, maps in parts]),
                    category=category,
                    method=name,
                    threshold=threshold,
                    num_rejected=inspected.num_rejected,
                )
            )
            del parts
    return found


def split(data: str, settings: Settings) -> tuple[list[str], list[archives.Listed]]:
    """URIs of a detector's held-out images as they lie below ``data``, and all other good ones.

    The detector may have been fitted elsewhere: what counts is the path below the category.
    Raises ValueError where a held-out image is not there.
    """
    marker = f"/{encoded(settings.category)}/"
    listed = good_images(data, settings.category)
    by_path = {each.image.rpartition(marker)[2]: each for each in listed}
    wanted = [image.rpartition(marker)[2] for image in settings.found.get("held_out", [])]
    missing = [path for path in wanted if path not in by_path]
    if missing or not wanted:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} held-out images of the {settings.category} detector "
            f"are not in {data}{f', the first: {missing[0]}' if missing else ''}; give as --data "
            "what it was trained on"
        )
    held_out = [by_path[path].image for path in wanted]
    return held_out, [each for each in listed if each.image not in set(held_out)]


class _Way(Protocol):
    """A way of looking at images, as it travels to the workers."""

    @property
    def names(self) -> Sequence[str]:
        """Of the methods that it gives results of."""

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        """What looks at a batch, and the size of its images in px."""


@dataclass(frozen=True)
class _Ablated:
    """A detector and its ablations."""

    models: str
    category: str
    version: str

    @property
    def names(self) -> Sequence[str]:
        return ablations.ABLATIONS

    def detector(self) -> Detector:
        return _detector(self.models, self.category, self.version)

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        detector = self.detector()
        size_px = detector.settings.vqvae.image_size_px
        return lambda batch: ablations.ablated(detector, batch), size_px


@dataclass(frozen=True)
class _Baselined:
    """A fitted baseline."""

    folder: str
    loss: Loss

    @property
    def names(self) -> Sequence[str]:
        return (self.loss,)

    def loaded(self) -> tuple[Callable[[Tensor], dict[str, Looked]], int]:
        baseline = _baseline(self.folder)

        def look(batch: Tensor) -> dict[str, Looked]:
            maps = baseline.anomaly_maps(batch.to(_device()))
            return {baseline.settings.loss: Looked(scores=baseline.scores(maps), maps=maps)}

        return look, baseline.settings.network.image_size_px


# A worker keeps what it looked with last: its next task is likely to want it again.
@lru_cache(maxsize=1)
def _detector(models: str, category: str, version: str) -> Detector:
    return Detector.load(models, category, version=version).to(_device())


@lru_cache(maxsize=1)
def _baseline(folder: str) -> Baseline:
    baseline = Baseline.load(folder)
    baseline.network.to(_device())
    return baseline


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpus() -> float:
    return 1.0 if session.num_gpus() >= 1 else 0.0


def _look(way: _Way, uris: Sequence[str], *, keep_maps: bool) -> dict[str, list[Any]]:
    """References to (scores, maps) by name, a list over chunks of the images."""
    num = len(way.names)
    task: Any = ray.remote(num_cpus=1, num_gpus=_gpus(), num_returns=num)(_look_at)
    found: dict[str, list[Any]] = {name: [] for name in way.names}
    for at in range(0, len(uris), _IMAGES_A_TASK):
        refs = task.remote(way, list(uris[at : at + _IMAGES_A_TASK]), keep_maps)
        for name, ref in zip(way.names, [refs] if num == 1 else refs, strict=True):
            found[name].append(ref)
    return found


def _look_at(way: _Way, uris: list[str], keep_maps: bool) -> Any:
    look, size_px = way.loaded()
    found = [look(batch) for batch in _batches(uris, size_px)]
    results = []
    for name in way.names:
        scores = np.array([score for each in found for score in each[name].scores])
        maps = [one for each in found for one in each[name].maps or ()]
        results.append((scores, np.stack(maps) if keep_maps and maps else None))
    return results[0] if len(results) == 1 else tuple(results)


def _batches(uris: Sequence[str], size_px: int) -> list[Tensor]:
    pixels = [
        images.decode(archives.read_bytes(uri, max_bytes=images.MAX_BYTES), size_px=size_px).pixels
        for uri in uris
    ]
    stacked = to_tensor(images.stack(pixels))
    return [to_images(chunk) for chunk in stacked.split(_BATCH_SIZE)]


def _scores(refs: list[Any]) -> list[float]:
    return [score for scores, _ in ray.get(refs) for score in scores.tolist()]


def _decodings(way: _Ablated, uris: list[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, direct and restored picture of each, 8-bit RGB."""
    detector, found = way.detector(), []
    with torch.inference_mode():
        for batch in _batches(uris, detector.settings.vqvae.image_size_px):
            codes = detector.vqvae.encode(batch.to(detector.device))
            pictures = (
                (batch * 255).round().byte().movedim(1, -1).numpy(),
                detector.pictures(codes),
                detector.pictures(detector.resample(codes).codes),
            )
            found += list(zip(*pictures, strict=True))
    return found


def fit_baselines(job: EvaluateJob, say: Callable[[str], None]) -> dict[tuple[str, Loss], str]:
    """Folders of the fitted baselines, by category and loss; what is there is not fitted again."""
    progress: Any = ray.remote(num_cpus=0)(Progress).remote()
    task: Any = ray.remote(num_cpus=1, num_gpus=_gpus())(_fit_baseline)
    folders, running = {}, []
    for category in job.categories:
        version = current_version(job.models, category)
        for loss in LOSSES:
            folder = _folder(job, category, version, loss)
            folders[category, loss] = folder
            if not archives.exists(archives.join(folder, "baseline.json")):
                running.append(task.remote(job, category, version, loss, folder, progress))
    while running:
        done, running = ray.wait(running, timeout=2)
        for line in ray.get(progress.take.remote()):
            say(line)
        ray.get(done)
    return folders


def _folder(job: EvaluateJob, category: str, version: str, loss: Loss) -> str:
    """Named after all that shapes the fit."""
    rows = [(each.image, each.etag) for each in good_images(job.data, category)]
    digest = hashlib.sha256(json.dumps([version, rows]).encode()).hexdigest()
    return archives.join(job.output, "baselines", category, f"{loss}-{digest[:12]}")


def _fit_baseline(
    job: EvaluateJob, category: str, version: str, loss: Loss, folder: str, progress: Any
) -> None:
    settings = Detector.load(job.models, category, version=version).settings
    preset = settings.found["options"]["preset"]
    held_out, others = split(job.data, settings)
    listed = {each.image: each for each in good_images(job.data, category)}
    _, kept, _ = read_pixels([listed[image] for image in held_out], preset)
    _, pixels, _ = read_pixels(others, preset)
    device = _device()
    for found in baseline_of(
        to_tensor(pixels).to(device),
        to_tensor(kept).to(device),
        loss=loss,
        settings=settings,
        options=budget(PRESETS[preset]),
    ):
        if isinstance(found, Baseline):
            found.network.cpu()
            found.save(folder)
            seconds = found.settings.found["seconds"]
            progress.add.remote(f"{category}: {loss} fitted after {seconds:.0f} s")
        elif found.step % 100 == 0:
            progress.add.remote(f"{category}: {describe(found)}")
