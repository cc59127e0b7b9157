"""Set eta and threshold of a fitted detector again, from the images that it held out."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from vqad.detector import Detector
from vqad.images.listing import Listed
from vqad.images.tensors import to_tensor
from vqad.images.tiles import Tiling
from vqad.storage import files, models_layout, uris
from vqad.storage.models_layout import CURVES
from vqad.training import dataset, holdout, normal_statistics, promise
from vqad.training.alignment import aligned_pixels
from vqad.training.calibration import Calibration
from vqad.training.dataset import Examples
from vqad.training.full_form import NormalImages
from vqad.training.local_statistics import among_others
from vqad.training.minimum_area import map_pixel, minimum_area
from vqad.training.options import MINIMUM_AREAS, TrainOptions, recorded_options
from vqad.training.tiled_category import tiled_calibration


def recalibrate(
    data: str, models: str, asked: TrainOptions, *, cpus: int, gpus: float, promote: bool = True
) -> Any:
    """Save the current detector with a new eta and threshold; returns the outcome.

    The new version is put in force if ``promote``.

    Its networks, its held-out images and its record of the fit stay as they are. Eta and quantile
    are those of ``asked``, and so are minimum area, scale and form where ``asked`` has them.
    """
    start_s = time.monotonic()
    torch.set_num_threads(cpus)
    try:
        old = Detector.load(models, asked.category)
        options = _options(old, asked)
        if asked.resize not in (None, old.settings.resize):
            raise ValueError(
                f"the {asked.category} detector resizes images by {old.settings.resize}; to have "
                f"one that does so by {asked.resize}, train it again"
            )
        if asked.tiling not in (None, old.settings.tiling):
            raise ValueError(
                f"the {asked.category} detector has {_described(old.settings.tiling)}; to have one "
                f"with {_described(asked.tiling)}, train it again"
            )
        held_out, others = holdout.split(data, old.settings)
        old.to("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
        of_form = tiled_calibration if old.settings.tiling else _calibration
        calibration = of_form(old, options, held_out, others)
    except ValueError as error:
        return {"failed": str(error)}
    fitted = old.settings.found
    record = replace(
        fitted,
        options=asdict(options),
        calibrated_from=old.version,
        # A detector of an older program has none.
        normal=fitted.normal
        or normal_statistics.measure(old.vqvae, calibration.held_out, None, seed=options.seed),
    )
    detector = calibration.detector(record)
    version = detector.to("cpu").save(
        models, _beside(models, old), promote=promote, why=f"calibrated from {old.version}"
    )
    return {
        "calibrated": True,
        "seconds": round(time.monotonic() - start_s, 1),
        "version": version,
        "codes_used": record.codes_used,
        "threshold": detector.settings.threshold,
        "eta": detector.settings.resample.eta,
        "images": record.num_images,
        "held_out": len(held_out),
        "unreadable": len(record.unreadable),
        **promise.outcome_of(detector.settings),
    }


def _calibration(
    old: Detector, options: TrainOptions, held_out: list[Listed], others: list[Listed]
) -> Calibration:
    """The calibration of a detector without tiles. Raises ValueError."""
    form = options.form or old.settings.form
    kept = _held_out_examples(held_out, old)
    area = minimum_area(
        options,
        map_pixel(kept.sizes_px, old.geometry.form.shape_of),
        default_px=old.vqvae.config.cell_area_px,
    )
    return Calibration(
        vqvae=old.fitted.vqvae,
        prior=old.fitted.prior,
        held_out=to_tensor(kept.pixels).to(old.device),
        options=options,
        minimum_area=area,
        bits=old.settings.bits,
        form=form,
        normal=_normal(kept, others, old, options.seed) if form == "full" else None,
        geometry=old.geometry,
        sources=kept.sizes_px,
        alignment=old.fitted.alignment,
    )


def _described(tiling: Tiling | None) -> str:
    if tiling is None:
        return "no tiles"
    return f"tiles of {tiling.tile_px} px that overlap by {tiling.overlap_px} px"


def normal_images(data: str, detector: Detector, *, seed: int) -> NormalImages:
    """The normal images that calibrate a detector of the form full, the held-out ones first.

    Raises ValueError if a held-out image is missing or can't be read.
    """
    held_out, others = holdout.split(data, detector.settings)
    return _normal(_held_out_examples(held_out, detector), others, detector, seed)


def read_for(detector: Detector, listed: Sequence[Listed]) -> Examples:
    """Images as a detector takes them, aligned if its are. Raises ValueError as `dataset.read`."""
    settings, alignment = detector.settings, detector.fitted.alignment
    found = dataset.read(
        listed,
        size_px=settings.vqvae.image_size_px,
        resize=settings.resize,
        roi=detector.geometry.roi,
        bits=settings.bits,
    )
    if alignment is None:
        return found
    return replace(found, pixels=aligned_pixels(alignment, found.pixels))


def _held_out_examples(held_out: list[Listed], detector: Detector) -> Examples:
    found = read_for(detector, held_out)
    if found.unreadable:
        raise ValueError(f"a held-out image can't be read any more: {found.unreadable[0]}")
    return found


def _normal(
    held_out: Examples, others: list[Listed], detector: Detector, seed: int
) -> NormalImages:
    """The held-out images, and as many of the others as local statistics take."""
    chosen = [others[at] for at in among_others(len(others), len(held_out.names), seed=seed)]
    names, pixels = held_out.names, to_tensor(held_out.pixels)
    if not chosen:  # the held-out images alone are as many as local statistics take
        return NormalImages.of(pixels, pixels[:0], names=names, sources=held_out.sizes_px)
    found = read_for(detector, chosen)
    return NormalImages.of(
        pixels,
        to_tensor(found.pixels),
        names=[*names, *found.names],
        sources=[*held_out.sizes_px, *found.sizes_px],
    )


def _options(detector: Detector, asked: TrainOptions) -> TrainOptions:
    """The options of the fit, with those that are asked for in a calibration."""
    fitted = recorded_options(detector.settings.found.options, asked.category)
    return replace(
        fitted,
        kind=detector.settings.kind,
        eta=asked.eta,
        threshold_quantile=asked.threshold_quantile,
        form=asked.form or detector.settings.form,
        precision=asked.precision or detector.settings.precision,
        **_areas(fitted, asked),
    )


def _areas(fitted: TrainOptions, asked: TrainOptions) -> dict[str, Any]:
    """Minimum area and scale, each as it is asked for, else as it was fitted."""
    is_asked = any(getattr(asked, name) is not None for name in MINIMUM_AREAS)
    found = {name: getattr(asked if is_asked else fitted, name) for name in MINIMUM_AREAS}
    scale = fitted.px_per_mm if asked.px_per_mm is None else asked.px_per_mm
    return found | {"px_per_mm": scale}


def _beside(models: str, old: Detector) -> dict[str, bytes]:
    """The curves of the fit, where the old version has them."""
    folder = models_layout.version(models, old.settings.category, old.version)
    places = {name: uris.join(folder, name) for name in CURVES}
    return {
        name: files.read_bytes(uri, max_bytes=2**26)
        for name, uri in places.items()
        if files.exists(uri)
    }
