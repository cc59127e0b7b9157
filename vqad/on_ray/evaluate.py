"""A whole evaluation on Ray: inspect the test images, measure, and write tables and figures.

Tasks and actors get images and detectors, and return scores and maps. Labels stay with the driver,
which has the maps of one method on one category in memory at a time.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from vqad.detection import calibrate
from vqad.detector import Detector
from vqad.evaluation import ablations, figures, measure, methods, report, results
from vqad.evaluation.baselines import LOSSES
from vqad.evaluation.canvas import Canvas, canvas_of, stacked
from vqad.evaluation.ground_truth import Truth, read_truth
from vqad.evaluation.job import EvaluateJob
from vqad.evaluation.labelled_images import LabelledImages
from vqad.evaluation.local_baseline import LOCAL
from vqad.evaluation.measure import RESAMPLING, Measured
from vqad.evaluation.report import Evaluation
from vqad.evaluation.results import Inspected
from vqad.evaluation.survey import Survey, describe_failed, survey
from vqad.images.placement import Geometry
from vqad.inspection import sink
from vqad.inspection.job import InspectJob
from vqad.inspection.summary import Say
from vqad.on_ray import baselines, evaluate_tasks, failures, session
from vqad.on_ray.night import inspect_archive
from vqad.storage import errors, lease, uris
from vqad.storage.errors import IncompleteError, VqadError
from vqad.storage.folder_names import readable_name
from vqad.training import holdout
from vqad.training.options import recorded_options


def evaluate(job: EvaluateJob, say: Say) -> Evaluation:
    """Do a whole evaluation: inspect unless verdicts are given, measure, and write the results.

    Takes the output's lease for the time of the run, and connects to Ray if detectors are given.
    ``say`` takes lines of progress. A category that cannot be evaluated is named in the result
    with its reason. Raises a VqadError or ValueError if nothing was started, such as InUseError
    for an output in use, and IncompleteError if the run began and could not be finished.
    """
    found = survey(job)
    with lease.held(job.output, lease.new_run()) as held, _ray_for(job):
        if not job.verdicts:
            inspect_archive(_inspection(job, found), say, command="evaluate")
        with (
            errors.work_begun(),
            failures.explained("end other programs, or evaluate fewer --categories"),
        ):
            evaluation = measure_all(job, found, say)
            held.check()
            say(f"tables and figures: {report.write(job.output, job.data, evaluation)}")
    return evaluation


def _ray_for(job: EvaluateJob) -> AbstractContextManager[None]:
    """A Ray if there are detectors to run: starting it takes seconds."""
    return session.connected() if job.models else nullcontext()


def _inspection(job: EvaluateJob, found: Survey) -> InspectJob:
    """One inspection of the test images of all categories, which are listed in a manifest.

    Its output keeps the verdicts of earlier evaluations. They are replaced if the image or the
    detector has changed, so verdicts of another detector are never taken for those of this one.
    """
    rows = [
        (each.image, category)
        for category, labelled in found.labelled.items()
        for each in labelled.images
    ]
    images, categories = zip(*rows, strict=True)
    manifest = uris.join(job.output, "test-images.parquet")
    sink.write_table(manifest, pa.table({"image": images, "category": categories}))
    return InspectJob(
        archive=manifest,
        models=job.models,
        output=job.inspected,
        redo="changed",
        batch_size=methods.BATCH_SIZE,
    )


def measure_all(job: EvaluateJob, found: Survey, say: Say) -> Evaluation:
    """Measure every category. Raises IncompleteError if none can be measured."""
    done = Evaluation(failed=dict(found.failed))
    fitted: dict[tuple[str, str], str] = {}
    if job.baselines:
        fitted = baselines.fit(job.data, job.models, job.output, list(found.labelled), say)
    for category, labelled in found.labelled.items():
        try:
            _measure_category(job, labelled, fitted, done, say)
        except (VqadError, ValueError) as error:
            done.failed[category] = str(error)
    if not done.measured:
        raise IncompleteError(describe_failed(done.failed))
    if done.distributions:
        own = [each for each in done.measured if each.method == RESAMPLING]
        thresholds = {each.category: each.threshold for each in own}
        done.pictures["figure6.png"] = figures.score_distributions(done.distributions, thresholds)
    if job.ablations:
        done.pictures["figure8.png"] = figures.ablations(done.measured)
    return done


def _measure_category(
    job: EvaluateJob,
    labelled: LabelledImages,
    fitted: dict[tuple[str, str], str],
    done: Evaluation,
    say: Say,
) -> None:
    """Add one category to what is done, with its baselines and ablations."""
    category = labelled.category
    inspected = results.read_inspected(job.inspected, category, labelled.defect_types)
    geometry = _geometry(job, category, inspected)
    canvas = canvas_of(inspected.shapes, inspected.sizes_px, geometry)
    truth = read_truth(labelled, inspected.images, canvas)
    about = report.about(inspected, truth, labelled)
    if (job.baselines or job.ablations) and geometry and geometry.form.tiling:
        about.append(f"{category}: no baselines and no ablations: they take no tiles")
    for line in about:
        say(line)
    measured = [_measured(truth, inspected, category)]
    say(describe_measured(measured[0]))
    pictures = {}
    if job.models:
        pictures[f"figure7-{readable_name(category)}.png"] = _figure7(
            job, category, truth, inspected, canvas
        )
    for each in _measured_with_others(job, truth, inspected, category, fitted):
        measured.append(each)
        say(describe_measured(each))
    # All at once and last: a category that fails leaves nothing half measured.
    done.about += about
    done.measured += measured
    done.pictures |= pictures
    if truth.masks is not None:
        done.distributions[category] = measure.distribution(
            inspected.maps, truth.masks, truth.counted
        )


def _geometry(job: EvaluateJob, category: str, inspected: Inspected) -> Geometry | None:
    """How the detector of the verdicts takes images; None where no detectors are given."""
    if not job.models:
        return None
    return Detector.load(job.models, category, version=inspected.model_version).geometry


def describe_measured(measured: Measured) -> str:
    """One line with all metrics that are defined."""
    values = asdict(measured.metrics).items()
    found = ", ".join(f"{name} {value:.3f}" for name, value in values if value is not None)
    method = "" if measured.method == RESAMPLING else f", {measured.method}"
    return f"{measured.category}{method}: {found}"


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


def _figure7(
    job: EvaluateJob, category: str, truth: Truth, inspected: Inspected, canvas: Canvas
) -> bytes:
    chosen = measure.examples(truth, inspected)
    task: Any = ray.remote(num_cpus=1, num_gpus=evaluate_tasks.num_gpus())(methods.decodings)
    detector = methods.AblatedMethod(job.models, category, inspected.model_version)
    pictures = ray.get(task.remote(detector, [inspected.images[at] for _, _, at in chosen]))
    rows = [
        _row(truth, inspected, canvas, at, caption=f"{defect_type}, {name}", pictures=found)
        for (defect_type, name, at), found in zip(chosen, pictures, strict=True)
    ]
    return figures.comparison(rows)


def _row(
    truth: Truth,
    inspected: Inspected,
    canvas: Canvas,
    at: int,
    *,
    caption: str,
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> figures.Shown:
    image, direct, restored = pictures
    name = uris.path_of(inspected.images[at]).rpartition("/")[2]
    score = f"{inspected.scores[at]:.1f} against {inspected.threshold:.1f}"
    return figures.Shown(
        caption=f"{caption}: {name}, {score}",
        image=image,
        truth=None if truth.masks is None else canvas.cropped(truth.masks, at),
        direct=direct,
        restored=restored,
        anomaly_map=canvas.cropped(inspected.maps, at),
        threshold=inspected.threshold,
    )


def _other_methods(
    job: EvaluateJob, category: str, inspected: Inspected, fitted: dict[tuple[str, str], str]
) -> list[methods.Method]:
    """The baselines and ablations that the job asks for."""
    found: list[methods.Method] = []
    geometry = _geometry(job, category, inspected)
    if geometry and geometry.form.tiling:
        return []  # they take images as a whole
    if job.baselines and geometry:
        found += [methods.BaselineMethod(fitted[category, loss], loss, geometry) for loss in LOSSES]
        found.append(methods.LocalMethod(fitted[category, LOCAL], geometry))
    if job.ablations:
        detector = job.models, category, inspected.model_version
        found.append(methods.AblatedMethod(*detector))
        if Detector.load(*detector[:2], version=detector[2]).settings.form == "full":
            found.append(evaluate_tasks.witness_method(*detector, job.data))
    return found


def _measured_with_others(
    job: EvaluateJob,
    truth: Truth,
    inspected: Inspected,
    category: str,
    fitted: dict[tuple[str, str], str],
) -> Iterator[Measured]:
    """Measure the baselines and ablations that the job asks for."""
    others = _other_methods(job, category, inspected, fitted)
    if not others:
        return
    settings = Detector.load(job.models, category, version=inspected.model_version).settings
    quantile = recorded_options(settings.found.options, category).threshold_quantile
    listed, _ = holdout.split(job.data, settings)
    held_out = [each.image for each in listed]
    for method in others:
        yield from _measured_with(
            method, truth, inspected, category, held_out=held_out, quantile=quantile
        )


def _measured_with(
    method: methods.Method,
    truth: Truth,
    inspected: Inspected,
    category: str,
    *,
    held_out: list[str],
    quantile: float | None,
) -> Iterator[Measured]:
    """Measure a method, at its own threshold from normal images.

    Some have theirs from their fit, the others from the detector's held-out images.
    """
    fitted = method.thresholds()
    calibrating = {} if fitted else evaluate_tasks.submit(method, held_out, keep_maps=False)
    testing = evaluate_tasks.submit(method, inspected.images, keep_maps=True)
    for name in method.names:
        threshold = (
            fitted[name]
            if name in fitted
            else calibrate.threshold(
                evaluate_tasks.scores_of(calibrating.pop(name)),
                quantile=quantile,
                smallest=ablations.smallest_threshold(name),
            )
        )
        # Popped, so that Ray can free the maps of this name when they are measured.
        scores, maps = _joined(ray.get(testing.pop(name)))
        yield measure.measure(
            truth,
            scores,
            maps,
            category=category,
            method=name,
            threshold=threshold,
            num_rejected=inspected.num_rejected,
        )


def _joined(parts: list[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores, and maps if there are any, of all chunks."""
    scores = np.concatenate([each for each, _ in parts])
    has_maps = parts[0][1] is not None
    return scores, stacked([each for _, maps in parts for each in maps]) if has_maps else None
