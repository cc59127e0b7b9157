"""A second detector, the shadow, that judges the decoded images of an inspection beside the first.

Its verdicts go to a table of their own, ``OUTPUT/shadow/verdicts/``, whose parts have the names of
the verdicts parts with the same images. A shadow decides nothing: a night whose shadow can't judge
is a whole night.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vqad.detection import saved_detector, versions
from vqad.detector import Detector
from vqad.images.placement import ImageForm
from vqad.inspection.job import LATEST, shadow_pairs
from vqad.inspection.region_columns import region_columns
from vqad.storage.errors import VqadError


class ShadowError(VqadError, ValueError):
    """A shadow that can't be run."""


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """The shadows of a run."""

    versions: dict[str, str] = field(default_factory=dict)  # by category
    left_out: dict[str, str] = field(default_factory=dict)  # why a newest version is none


NONE: Final = Shadows()


def pinned(
    models: str, asked: Sequence[str], in_force: Mapping[str, str], forms: Mapping[str, ImageForm]
) -> Shadows:
    """The versions that ``--shadow`` asks for, of the categories that are inspected.

    Each is loaded once to check it. Raises ShadowError, and DetectorError for one that does not
    load.
    """
    if tuple(asked) == (LATEST,):
        return _latest(models, in_force, forms)
    found = shadow_pairs(asked)
    for category, version in found.items():
        if category not in in_force:
            raise ShadowError(
                f"--shadow {category}={version}: no detector of {category} is inspecting; there "
                f"are: {', '.join(sorted(in_force))}"
            )
        versions.check_loads(models, category, version)
        if problem := _other_form(models, category, version, forms[category]):
            raise ShadowError(f"--shadow {category}={version}: {problem}")
    return Shadows(versions=found)


def _latest(models: str, in_force: Mapping[str, str], forms: Mapping[str, ImageForm]) -> Shadows:
    found = Shadows()
    for category in sorted(in_force):
        version = versions.newest_version(models, category)
        if version == in_force[category]:
            continue
        versions.check_loads(models, category, version)
        if problem := _other_form(models, category, version, forms[category]):
            found.left_out[category] = f"{version}: {problem}"
        else:
            found.versions[category] = version
    return found


def _other_form(models: str, category: str, version: str, form: ImageForm) -> str:
    """Why two detectors can't share decoded images, "" if they can."""
    own = saved_detector.load_settings(models, category, version).image_form
    if own.size_px != form.size_px:
        differ = f"images of {own.size_px} pixels, the one in force {form.size_px}"
    elif own.resize != form.resize:
        differ = f"images resized by {own.resize}, the one in force by {form.resize}"
    elif (own.tiling is None) != (form.tiling is None):
        whole, tiles = "whole images", "images by tiles"
        differ = (
            f"{tiles if own.tiling else whole}, the one in force {whole if own.tiling else tiles}"
        )
    elif own.roi_source_px not in (None, form.roi_source_px):
        differ = "images of the shape of its region of interest, the one in force others"
    else:
        return ""
    return (
        f"it takes {differ}; a shadow needs the same, because both judge one decoded image: "
        "inspect into another --output instead"
    )


def judged(row: Mapping[str, Any], detector: Detector, found: Any, at: int) -> dict[str, Any]:
    """The columns ``shadow_rows.OWN`` of one image of an inspected batch."""
    regions = detector.regions(
        found.anomaly_maps[at],
        source_width_px=row["width_px"],
        source_height_px=row["height_px"],
    )
    return {
        "verdict": found.verdicts[at],
        "score": found.scores[at],
        "threshold": detector.settings.threshold,
        "codes_changed": found.codes_changed[at],
        **region_columns(regions, detector.settings),
        "model_version": detector.version,
        "p_value": found.p_values[at],
        "witnesses": _witnesses(found.shares[at]),
    }


def _witnesses(shares: dict[str, float]) -> list[dict[str, Any]] | None:
    """The shares as in the table; null if the detector's form has no witnesses."""
    return [{"name": name, "share": share} for name, share in shares.items()] or None
