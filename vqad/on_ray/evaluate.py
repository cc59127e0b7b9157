"""Evaluation on Ray: inspecting the test images, baselines and ablations, all side by side.

The tasks get images and detectors, and give scores and maps; labels stay with the driver, which
holds the maps of one method on one category at a time against them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray

from vqad.detection import calibrate
from vqad.detector import Detector, current_version
from vqad.evaluation import ablations, figures, measure, methods, results
from vqad.evaluation.baselines import LOSSES, Loss
from vqad.evaluation.ground_truth import Truth, read_truth
from vqad.evaluation.job import EvaluateJob
from vqad.evaluation.measure import RESAMPLING, Measured
from vqad.evaluation.results import Inspected
from vqad.images import listing
from vqad.images.routing import Routing
from vqad.inspection.job import InspectJob
from vqad.on_ray import baselines, evaluate_tasks
from vqad.storage import uris
from vqad.training import holdout
from vqad.training.options import recorded_options


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
    tests = {category: uris.join(data, category, "test") for category in categories}
    shaping = [
        [
            current_version(models, category),
            [[each.image, each.etag] for each in listing.list_images(tests[category])],
        ]
        for category in categories
    ]
    digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()
    folder = uris.join(output, f"inspected-{digest[:12]}")
    return [
        InspectJob(
            archive=tests[category],
            models=models,
            output=folder,
            routing=Routing(category=category),
            batch_size=methods.BATCH_SIZE,
        )
        for category in categories
    ]


def check(job: EvaluateJob) -> None:
    """Look for what baselines and ablations need. Raises ValueError where it is not there."""
    if job.baselines or job.ablations:
        for category in job.categories:
            holdout.split(job.data, Detector.load(job.models, category).settings)


def evaluate(job: EvaluateJob, say: Callable[[str], None]) -> Evaluation:
    """Measure every category; ``say`` takes lines of progress.

    Needs a connected Ray where the job names detectors. Raises ValueError for tables, masks or
    held-out images that are not there.
    """
    done = Evaluation()
    fitted = (
        baselines.fit(job.data, job.models, job.output, job.categories, say)
        if job.baselines
        else {}
    )
    distributions, thresholds = {}, {}
    for category in job.categories:
        inspected = results.read_inspected(job.data, job.inspected, category)
        shape = inspected.maps.shape[1], inspected.maps.shape[2]
        truth = read_truth(job.data, category, inspected.images, shape)
        done.about.append(_about(category, inspected, truth, shape))
        measured = _measured(truth, inspected, category)
        done.measured.append(measured)
        say(describe_measured(measured))
        if truth.masks is not None:
            distributions[category] = measure.distribution(inspected.maps, truth.masks)
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
    return measure.measure(
        truth,
        inspected.scores,
        inspected.maps,
        category=category,
        method=RESAMPLING,
        threshold=inspected.threshold,
        num_rejected=inspected.num_rejected,
    )


def _figure7(job: EvaluateJob, category: str, truth: Truth, inspected: Inspected) -> bytes:
    chosen = measure.telling(truth, inspected)
    task: Any = ray.remote(num_cpus=1, num_gpus=evaluate_tasks.num_gpus())(methods.decodings)
    uris = [inspected.images[at] for _, _, at in chosen]
    pictures = ray.get(
        task.remote(methods.AblatedMethod(job.models, category, inspected.model_version), uris)
    )
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
    held_out, _ = holdout.split(job.data, settings)
    compared: list[methods.Method] = [
        methods.BaselineMethod(fitted[category, loss], loss) for loss in LOSSES if fitted
    ]
    if job.ablations:
        compared.append(methods.AblatedMethod(job.models, category, inspected.model_version))
    found = []
    for way in compared:
        calibrating = evaluate_tasks.looked(way, held_out, keep_maps=False)
        testing = evaluate_tasks.looked(way, inspected.images, keep_maps=True)
        for name in way.names:
            threshold = calibrate.threshold(
                evaluate_tasks.scores_of(calibrating.pop(name)),
                quantile=recorded_options(settings.found.options, category).threshold_quantile,
                smallest=ablations.smallest_threshold(name),
            )
            parts = ray.get(testing.pop(name))
            found.append(
                measure.measure(
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
