"""A new version of a detector with another threshold: the same weights, told in its record."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from vqad.detection import saved_detector
from vqad.detection.fit_record import ThresholdRecord
from vqad.detection.same_fit import SameFit
from vqad.detection.settings import read_settings
from vqad.detection.weights import (
    LARGEST_WEIGHTS_BYTES,
    DetectorError,
    read_json,
    record_of,
)
from vqad.storage import files, json_objects, models_layout, uris
from vqad.storage.models_layout import CURVES

_LARGEST_CURVES_BYTES = 2**26


def save(
    models: str, fit: SameFit, threshold: float, found: ThresholdRecord, scores: Sequence[float]
) -> str:
    """Save a version with this threshold, not in force; returns the version.

    ``scores`` are of a night's normal images, if they set the threshold. A version that is there
    already with the same threshold for the same reason is taken: the command may have been killed.
    Raises ValueError for a threshold that is none.
    """
    category = fit.settings.category
    replace(fit.settings, threshold=threshold)  # refuses what is no threshold
    for name in reversed(fit.versions):
        other = saved_detector.load_settings(models, category, name)
        if other.threshold == threshold and _is_same(other.found.threshold, found):
            return name
    old = models_layout.version(models, category, fit.version)
    record = read_json(models_layout.record(old))
    version = saved_detector.new_version(models, category, fit.version.rpartition("-")[2])
    record["version"] = version
    record["settings"]["threshold"] = threshold
    record["settings"].setdefault("found", {}).update(
        threshold=asdict(found), night_scores=list(scores)
    )
    folder = models_layout.version(models, category, version)
    read_settings(record, folder)
    _copy(old, folder, record["files"])
    files.write_bytes(models_layout.record(folder), json_objects.encoded(record))
    return version


def _is_same(one: ThresholdRecord | None, other: ThresholdRecord) -> bool:
    """True if two thresholds have one reason; reviews may have come between."""
    return one is not None and (one.rule, one.asked, one.source) == (
        other.rule,
        other.asked,
        other.source,
    )


def _copy(old: str, new: str, recorded: dict[str, Any]) -> None:
    for name in CURVES:
        if files.exists(uris.join(old, name)):
            data = files.read_bytes(uris.join(old, name), max_bytes=_LARGEST_CURVES_BYTES)
            files.write_bytes(uris.join(new, name), data)
    for name, expected in recorded.items():
        uri = uris.join(old, name)
        data = files.read_bytes(uri, max_bytes=LARGEST_WEIGHTS_BYTES)
        if record_of(data) != expected:
            raise DetectorError(
                f"{uri} does not match its recorded hash and size; restore it, or train again"
            )
        files.write_bytes(uris.join(new, name), data)
