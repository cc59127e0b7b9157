"""Fit the baselines of an evaluation side by side, each in a Ray task.

Autoencoders are fitted on the training images of a detector, and its held-out images set their
threshold. Local statistics take all of them, and score each by the others. A finished fit is kept
below the evaluation's output and not repeated.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import ray

from vqad import detector
from vqad.detection.saved_categories import current_version
from vqad.detection.settings import Settings
from vqad.detector import Detector
from vqad.evaluation import saved_baseline
from vqad.evaluation.baselines import LOSSES, Baseline, Loss, baseline_of, budget
from vqad.evaluation.local_baseline import LOCAL, local_baseline
from vqad.images.listing import Listed
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import to_tensor
from vqad.on_ray import evaluate_tasks, event_log
from vqad.storage import files, uris
from vqad.storage.folder_names import readable_name
from vqad.training import dataset, holdout
from vqad.training.dataset import Examples
from vqad.training.events import Event, of_record
from vqad.training.options import recorded_options
from vqad.training.presets import PRESETS


def fit(
    data: str, models: str, output: str, categories: Sequence[str], say: Callable[[str], None]
) -> dict[tuple[str, str], str]:
    """Fit the baselines that are not there yet; returns their folders by category and name."""
    log = event_log.begin()
    task: Any = ray.remote(num_cpus=1, num_gpus=evaluate_tasks.num_gpus())(_fit_baseline)
    folders, running = {}, []
    for category in categories:
        version = current_version(models, category)
        detector = Detector.load(models, category, version=version)
        if detector.settings.tiling is not None:
            continue  # baselines take images as a whole
        held_out, others = holdout.split(data, detector.settings)
        for name in (*LOSSES, LOCAL):
            folder = _folder(output, category, version, name, [*held_out, *others])
            folders[category, name] = folder
            if not files.exists(saved_baseline.record_uri(folder)):
                running.append(
                    task.remote(
                        detector.settings,
                        detector.geometry.roi,
                        held_out,
                        others,
                        name,
                        folder,
                        log,
                    )
                )
    while running:
        done, running = ray.wait(running, timeout=2)
        for event in ray.get(log.take.remote()):
            say(event.line)
        ray.get(done)
    return folders


def _folder(output: str, category: str, version: str, name: str, good: Sequence[Listed]) -> str:
    """A baseline's folder, whose name depends on everything that shapes the fit."""
    rows = sorted((each.image, each.etag) for each in good)
    digest = hashlib.sha256(json.dumps([version, rows]).encode()).hexdigest()
    return uris.join(
        output, "baselines", readable_name(category), f"{name.replace(' ', '-')}-{digest[:12]}"
    )


def _fit_baseline(
    settings: Settings,
    roi: RegionOfInterest | None,
    held_out: list[Listed],
    others: list[Listed],
    name: str,
    folder: str,
    log: Any,
) -> None:
    if name == LOCAL:
        seconds = _fit_local(settings, roi, [*held_out, *others], folder)
    else:
        assert name in LOSSES
        seconds = _fit_autoencoder(settings, roi, held_out, others, name, folder, log)
    line = f"{settings.category}: {name} fitted after {seconds:.0f} s"
    log.add.remote(Event(category=settings.category, line=line))


def _read(settings: Settings, roi: RegionOfInterest | None, some: Sequence[Listed]) -> Examples:
    form = settings.image_form
    return dataset.read(some, size_px=form.size_px, resize=form.resize, roi=roi, bits=settings.bits)


def _fit_local(
    settings: Settings, roi: RegionOfInterest | None, good: list[Listed], folder: str
) -> float:
    found = _read(settings, roi, good)
    baseline = local_baseline(
        found.names, found.pixels, settings=settings, placements=found.placements
    )
    baseline.save(folder)
    return baseline.settings.seconds


def _fit_autoencoder(
    settings: Settings,
    roi: RegionOfInterest | None,
    held_out: list[Listed],
    others: list[Listed],
    loss: Loss,
    folder: str,
    log: Any,
) -> float:
    category = settings.category
    preset = PRESETS[recorded_options(settings.found.options, category).preset]
    held_out_pixels = _read(settings, roi, held_out).pixels
    pixels = _read(settings, roi, others).pixels
    device = detector.device()
    for found in baseline_of(
        to_tensor(pixels).to(device),
        to_tensor(held_out_pixels).to(device),
        loss=loss,
        settings=settings,
        options=budget(preset),
    ):
        if isinstance(found, Baseline):
            found.network.cpu()
            found.save(folder)
            return float(found.settings.found["seconds"])
        if found.step % 100 == 0:
            log.add.remote(of_record(category, found))
    raise AssertionError("the last of a fit is the baseline")
