"""The speed of inspecting in one process, without Ray: as a whole, and stage by stage."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqad.array_types import Codes, Images
from vqad.benchmarks.machine import Stopwatch
from vqad.detection import anomaly_map
from vqad.detection.evidence import Evidence
from vqad.detection.local_statistics import Field
from vqad.detection.segmented import segmented
from vqad.detection.settings import GREY_LEVELS, Settings
from vqad.detection.surprisal import Form, readings, unknown
from vqad.detection.whole_images import grid_of, tiles_of
from vqad.detection.witnesses import LOCAL, SEGMENTER
from vqad.detector import Detector
from vqad.images import decoding, listing
from vqad.images.decoding import WholeImage
from vqad.images.placement import Placement, Size, places_of
from vqad.images.tensors import filled, to_images, to_tensor
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import ResampleOptions, likelihood_of
from vqad.model.vqvae import VQVAE
from vqad.storage import files
from vqad.training.presets import PRESETS

RANDOM = "random"  # the category of a detector of random weights


def random_detector(preset: str) -> Detector:
    """A detector of a preset's sizes with random weights; a pass takes the time of a fitted one.

    `with_some_changes` sets its eta.
    """
    torch.manual_seed(0)
    sizes = PRESETS[preset]
    settings = Settings(
        category=RANDOM,
        kind="object",
        vqvae=sizes.vqvae,
        prior=sizes.prior,
        resample=ResampleOptions(),
        threshold=1.0,
        minimum_area_px=sizes.vqvae.cell_area_px,
    )
    return Detector(VQVAE(sizes.vqvae), PixelSNAIL(sizes.prior), settings)


def in_form(detector: Detector, form: Form | None) -> Detector:
    """The detector with another form of map. Raises ValueError if it was not calibrated for it."""
    if form is None or form == detector.settings.form:
        return detector
    settings = detector.settings
    if form == "full":
        raise ValueError(
            f"the {settings.category} detector has no full form; make one with: "
            "vqad train --only calibrate --form full"
        )
    # A detector of random weights needs no usual surprisal. That of a fitted plain one is unknown.
    usual = unknown(settings.vqvae.latent_size) if settings.category == RANDOM else settings.usual
    return detector.with_settings(form=form, usual=usual, unit=GREY_LEVELS)


@torch.inference_mode()
def with_some_changes(detector: Detector, codes: Codes) -> Detector:
    """The detector with an eta such that a twentieth of these codes is improbable."""
    likelihood = likelihood_of(detector.prior(codes), codes)
    eta = float(likelihood.flatten().quantile(0.05))
    return detector.with_settings(resample=ResampleOptions(eta=eta))


def read_images(detector: Detector, listed: Sequence[listing.Listed]) -> Images:
    """Images (num, 3, size, size) as the detector takes them, or the first tile of each.

    One that can't be read ends the measurement with its error.
    """
    if detector.settings.tiling is None:
        return _read(detector, listed, Stopwatch())[0]
    wholes = (_read_whole(each, Stopwatch()) for each in listed)
    return torch.cat([next(_tiles(detector, each, 1)) for each in wholes])


@torch.inference_mode()
def encode(detector: Detector, pictures: torch.Tensor, batch_size: int) -> Codes:
    """Codes of images, a batch at a time."""
    batches = pictures.to(detector.device).split(batch_size)
    return torch.cat(
        [
            detector.vqvae.encode(each.contiguous(memory_format=torch.channels_last))
            for each in batches
        ]
    )


def _read(
    detector: Detector, listed: Sequence[listing.Listed], watch: Stopwatch
) -> tuple[Images, list[Size]]:
    settings = detector.settings
    with watch.timed("fetch"):
        data = [files.read_bytes(each.image, max_bytes=decoding.MAX_BYTES) for each in listed]
    with watch.timed("decode"):
        decoded = [decoding.decode_as(settings.image_form, each) for each in data]
        pixels = decoding.stack([each.pixels for each in decoded], bits=settings.bits)
        return to_images(to_tensor(pixels)), [each.source_px for each in decoded]


def _read_whole(listed: listing.Listed, watch: Stopwatch) -> WholeImage:
    with watch.timed("fetch"):
        data = files.read_bytes(listed.image, max_bytes=decoding.MAX_BYTES)
    with watch.timed("decode"):
        return decoding.decode_whole(data)


def _tiles(detector: Detector, image: WholeImage, batch_size: int) -> Iterator[Images]:
    tiles = tiles_of(image, grid_of(image, detector), detector, batch_size)
    return (each.images for each in tiles)


def whole(
    detector: Detector, listed: Sequence[listing.Listed], *, batch_size: int
) -> dict[str, float]:
    """Seconds of fetch, decode and `Detector.inspect` over all images, in this process."""
    watch = Stopwatch()
    if detector.settings.tiling is not None:
        for each in listed:
            image = _read_whole(each, watch)
            with watch.timed("inspect"):
                detector.inspect_whole(image, batch_size=batch_size)
        return watch.seconds
    for at in range(0, len(listed), batch_size):
        batch = _read(detector, listed[at : at + batch_size], watch)
        with watch.timed("inspect"):
            detector.inspect(*batch)
    return watch.seconds


@torch.inference_mode()
def stages(
    detector: Detector, listed: Sequence[listing.Listed], *, batch_size: int
) -> tuple[dict[str, float], float]:
    """Seconds of each stage alone, and the networks' operations per second in `inspect`."""
    watch, flops = Stopwatch(), 0.0
    for batch in _batches(detector, listed, watch, batch_size):
        _networks(detector, *batch, watch)
        # Not counted and timed in one call: the counter itself takes time.
        with watch.timed("inspect"):
            detector.inspect(*batch)
        with FlopCounterMode(display=False) as counter:
            detector.inspect(*batch)
        flops += counter.get_total_flops()
    return watch.seconds, flops / watch.seconds.pop("inspect")


def _batches(
    detector: Detector, listed: Sequence[listing.Listed], watch: Stopwatch, batch_size: int
) -> Iterator[tuple[Images, list[Size] | None]]:
    """Images and the sizes of their sources, or the tiles of one image after the other."""
    if detector.settings.tiling is None:
        for at in range(0, len(listed), batch_size):
            yield _read(detector, listed[at : at + batch_size], watch)
        return
    for each in listed:
        for batch in _tiles(detector, _read_whole(each, watch), batch_size):
            yield batch, None


def _networks(
    detector: Detector, batch: Images, sources: Sequence[Size] | None, watch: Stopwatch
) -> None:
    settings = detector.settings
    with watch.timed("align") if settings.aligned else nullcontext():
        placements = detector.placements(batch, sources)
        batch = filled(batch, placements)
    batch = batch.to(detector.device).contiguous(memory_format=torch.channels_last)
    with watch.timed("encode"):
        codes = detector.vqvae.encode(batch)
    with watch.timed("prior, one pass"):
        detector.incremental_prior.begin(codes)
    with watch.timed("resample"):
        resampled = detector.resample(codes)
    surprisals = []
    if settings.form != "plain":
        reads_twice = settings.turned_reading and len(readings(settings.kind)) > 1
        with watch.timed("other readings" if reads_twice else "surprisal"):
            surprisals = detector.surprisals(batch, resampled.likelihood)
    with watch.timed("decode pair"):
        changed, *pair = detector.changed_pairs(codes, resampled.codes)
    with watch.timed("filter"):
        differences = anomaly_map.maps_of_pairs(
            len(batch),
            changed,
            *pair,
            size_px=settings.vqvae.image_size_px,
            placements=placements,
        )
    found = Evidence(
        placements=placements,
        codes=codes,
        restored_codes=resampled.codes,
        differences=differences,
        surprisals=surprisals,
        local_fields=_local_fields(detector, batch, placements, watch)
        if settings.form == "full"
        else [],
    )
    with watch.timed("score"):
        detector.judged(found, detector.witness_fields(found))


def _local_fields(
    detector: Detector, batch: Images, placements: Sequence[Placement], watch: Stopwatch
) -> list[dict[str, Field]]:
    """`segmented.local_fields`, by stages."""
    statistics, segmenter = detector.local_statistics, detector.segmenter
    assert statistics is not None
    places = places_of(placements, statistics.config.features.grid)
    with watch.timed("local features"):
        features = statistics.features(batch)
    with watch.timed("local distances"):
        distances = statistics.distances(features, places)
        fields = [{LOCAL: field} for field in statistics.fields(distances)]
    if segmenter is None:
        return fields
    with watch.timed("segmenter"):
        found = segmented(segmenter, statistics.residuals(features, distances, places))
    return [one | {SEGMENTER: field} for one, field in zip(fields, found, strict=True)]
