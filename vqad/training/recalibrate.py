"""Setting eta and threshold of fitted detectors anew, on the images that they held out."""

import time
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from vqad.detector import Detector
from vqad.images.tensors import to_tensor
from vqad.storage import files, uris
from vqad.training import curves, dataset, holdout
from vqad.training.category import Training
from vqad.training.options import TrainOptions


def recalibrate(data: str, models: str, asked: TrainOptions, *, cpus: int, gpus: float) -> Any:
    """Save the detector in force under a new eta and threshold; returns how it ended.

    The split is the one that it was fitted with. What it was fitted by stays as it is recorded;
    eta and quantile are as asked for, and so are minimum area and form, where they are given.
    """
    start_s = time.monotonic()
    torch.set_num_threads(cpus)
    try:
        old = Detector.load(models, asked.category)
        options = _options(old, asked)
        held_out, _ = holdout.split(data, old.settings)
        by_uri = {each.image: each for each in dataset.good_images(data, asked.category)}
        size_px = old.settings.vqvae.image_size_px
        found = dataset.read([by_uri[uri] for uri in held_out], size_px=size_px)
        if found.unreadable:
            raise ValueError(f"a held-out image can't be read any more: {found.unreadable[0]}")
    except ValueError as error:
        return {"failed": str(error)}
    device = "cuda" if gpus > 0 and torch.cuda.is_available() else "cpu"
    training = Training.with_networks(old.to(device), to_tensor(found.pixels).to(device), options)
    detector = training.detector()
    detector.settings.found.update(calibrated_from=old.version)
    version = detector.to("cpu").save(models, _beside(models, old))
    return {
        "calibrated": True,
        "seconds": round(time.monotonic() - start_s, 1),
        "version": version,
        "codes_used": detector.settings.found["codes_used"],
        "threshold": detector.settings.threshold,
        "eta": detector.settings.resample.eta,
        "images": detector.settings.found["num_images"],
        "held_out": len(held_out),
        "unreadable": len(detector.settings.found.get("unreadable", ())),
    }


def _options(detector: Detector, asked: TrainOptions) -> TrainOptions:
    """As the detector was fitted, with what a calibration is asked for."""
    recorded = detector.settings.found.get("options")
    try:
        fitted = TypeAdapter(TrainOptions).validate_python(recorded)
    except ValidationError as error:
        raise ValueError(
            f"the {asked.category} detector has no record of how it was fitted "
            f"({error.errors()[0]['msg']}); train it again"
        ) from error
    area_px = asked.minimum_area_px
    return replace(
        fitted,
        eta=asked.eta,
        threshold_quantile=asked.threshold_quantile,
        minimum_area_px=fitted.minimum_area_px if area_px is None else area_px,
        form=asked.form or detector.settings.form,
    )


def _beside(models: str, old: Detector) -> dict[str, bytes]:
    """The curves of the fit, where the old version has them."""
    folder = uris.join(models, old.settings.category, old.version)
    places = {name: uris.join(folder, name) for name in curves.FILES}
    return {
        name: files.read_bytes(uri, max_bytes=2**26)
        for name, uri in places.items()
        if files.exists(uri)
    }
