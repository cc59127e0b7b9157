"""A detector on storage: what is written where, and what is refused when it is read.

`vqad.detector` saves and loads through this module. Its files lie as `storage/models_layout` says:
the weights of each part as safetensors, and detector.json with settings, hashes and sizes.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import torch
from torch import nn

from vqad.detection.local_statistics import LocalStatistics
from vqad.detection.saved_categories import current_version, is_version
from vqad.detection.settings import FORMAT_VERSION, Settings, read_settings
from vqad.detection.weights import (
    LARGEST_WEIGHTS_BYTES,
    DetectorError,
    load_weights,
    read_json,
    read_recorded,
    record_of,
    weights_of,
)
from vqad.images import region_files
from vqad.images.alignment import Alignment
from vqad.images.roi import RegionOfInterest
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.segmenter import Segmenter
from vqad.model.vqvae import VQVAE
from vqad.storage import files, json_objects, models_layout, promotions, uris
from vqad.storage.models_layout import ALIGNMENT, LOCAL_STATISTICS, ROI, SEGMENTER, WEIGHTS

_WAIT_S: Final = 0.05  # until the time in a new version's name is another


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The fitted parts of a detector."""

    vqvae: VQVAE
    prior: PixelSNAIL
    local_statistics: LocalStatistics | None  # of the form full
    segmenter: Segmenter | None  # of the form full, where it has one
    roi: RegionOfInterest | None = None
    alignment: Alignment | None = None  # of a product that lies in any direction

    def by_file(self) -> dict[str, nn.Module]:
        """Each part by the name of its file."""
        parts = (self.vqvae, self.prior, self.local_statistics, self.segmenter, self.alignment)
        names = (*WEIGHTS, LOCAL_STATISTICS, SEGMENTER, ALIGNMENT)
        return {name: part for name, part in zip(names, parts, strict=True) if part is not None}


def save(
    models: str,
    settings: Settings,
    parts: Parts,
    beside: Mapping[str, bytes] | None = None,
    *,
    promote: bool = True,
    why: str = "saved",
) -> str:
    """Save a new version in ``models``, and put it in force if ``promote``; returns the version.

    ``beside`` are more files for people, by name; loading ignores them. ``why`` goes to the log.
    """
    if settings.form != "full":
        parts = replace(parts, local_statistics=None, segmenter=None)
    weights = {name: weights_of(part) for name, part in parts.by_file().items()}
    region = {ROI: region_files.encoded(parts.roi)} if parts.roi else {}
    digest = hashlib.sha256(b"".join(weights.values())).hexdigest()
    version = new_version(models, settings.category, digest[:8])
    folder = models_layout.version(models, settings.category, version)
    record = {
        "format_version": FORMAT_VERSION,
        "version": version,
        "settings": asdict(settings),
        "files": {name: record_of(data) for name, data in (weights | region).items()},
    }
    for name, data in {**(beside or {}), **weights, **region}.items():
        files.write_bytes(uris.join(folder, name), data)
    files.write_bytes(models_layout.record(folder), json_objects.encoded(record))
    # Last, so that the version in force is always complete.
    if promote:
        who = promotions.default_who()
        promotions.put_in_force(models, settings.category, version, who=who, why=why)
    return version


def new_version(models: str, category: str, digest: str) -> str:
    """A version's name that is not taken: the same weights may be saved twice in one second."""
    while True:
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{digest}"
        if not files.exists(models_layout.record(models_layout.version(models, category, version))):
            return version
        time.sleep(_WAIT_S)


def load(models: str, category: str, version: str) -> tuple[Settings, Parts, str]:
    """Settings, parts and version of the current version, or of the given one.

    Raises DetectorError.
    """
    version = version or current_version(models, category)
    settings, recorded = load_record(models, category, version)
    folder = models_layout.version(models, category, version)
    parts = _empty_parts(settings, folder)
    for name, part in parts.by_file().items():
        load_weights(part, uris.join(folder, name), recorded.get(name))
    return settings, replace(parts, roi=_load_region(settings, folder, recorded)), version


def _load_region(
    settings: Settings, folder: str, recorded: dict[str, Any]
) -> RegionOfInterest | None:
    if settings.roi_source_px is None:
        return None
    uri = uris.join(folder, ROI)
    data = read_recorded(uri, recorded.get(ROI), max_bytes=region_files.LARGEST_BYTES)
    try:
        return region_files.decoded(data, settings.roi_source_px, uri)
    except region_files.RegionError as error:
        raise DetectorError(str(error)) from error


def load_settings(models: str, category: str, version: str) -> Settings:
    """The settings of a version without its weights. Raises DetectorError."""
    return load_record(models, category, version)[0]


def load_record(models: str, category: str, version: str) -> tuple[Settings, dict[str, Any]]:
    """Settings of a version, and hash and size of each file by its name. Raises DetectorError."""
    if not is_version(version):
        raise DetectorError(f"no detector can be called {category!r}, version {version!r}")
    folder = models_layout.version(models, category, version)
    record = read_json(models_layout.record(folder))
    settings = read_settings(record, folder)
    if settings.category != category or record.get("version") != version:
        raise DetectorError(
            f"{folder} contains a detector of {settings.category}, version "
            f"{record.get('version')}; move the folder back to where it was saved"
        )
    return settings, record["files"]


def _empty_parts(settings: Settings, folder: str) -> Parts:
    # First without memory: each size may be valid, and all of them together too large.
    with torch.device("meta"):
        networks = VQVAE(settings.vqvae), PixelSNAIL(settings.prior)
    for network in networks:
        num_bytes = sum(each.nbytes for each in network.state_dict().values())
        if num_bytes > LARGEST_WEIGHTS_BYTES:
            raise DetectorError(
                f"{folder}/detector.json asks for {num_bytes} bytes of weights, more than "
                f"{LARGEST_WEIGHTS_BYTES}; restore it, or train again with smaller sizes"
            )
    full = settings.form == "full"
    config = settings.local_statistics if full else None
    segmenter = settings.segmenter if full else None
    return Parts(
        vqvae=VQVAE(settings.vqvae),
        prior=PixelSNAIL(settings.prior),
        # The bounds of their configurations keep them below 50 MB at 256 px, and 9 MB.
        local_statistics=LocalStatistics(config) if config else None,
        segmenter=Segmenter(segmenter) if segmenter else None,
        alignment=Alignment() if settings.aligned else None,
    )
