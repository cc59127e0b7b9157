"""Versions of one fit: they have the same weights, and differ only in what changes no score.

So the scores of rows by one of them are those of the others, and another threshold can judge them.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vqad.detection import saved_detector
from vqad.detection.area_score import AreaRule
from vqad.detection.fit_record import FitRecord
from vqad.detection.settings import Settings
from vqad.detection.versions import version_names
from vqad.detection.weights import DetectorError

_ANY_THRESHOLD: Final = 0.0
_ANY_SCALE: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class SameFit:
    """A version, and those whose scores and maps are the same, whatever their thresholds are."""

    version: str
    settings: Settings
    versions: tuple[str, ...]  # names, this one included, the oldest first


def same_fit(models: str, category: str, version: str) -> SameFit:
    """A version and those that give its scores and maps. Raises DetectorError."""
    settings, files = saved_detector.load_record(models, category, version)
    wanted = _of_maps(settings), files
    found = {version}
    for name in version_names(models, category):
        try:
            other, its_files = saved_detector.load_record(models, category, name)
        except DetectorError:
            continue  # a broken version has given no verdict that could be judged again
        if (_of_maps(other), its_files) == wanted:
            found.add(name)
    return SameFit(version=version, settings=settings, versions=tuple(sorted(found)))


def have_same_scores(models: str, category: str, one: str, other: str) -> bool:
    """True if two versions give every image the same score; their maps may differ in scale."""
    if one == other:
        return True
    try:
        ours, theirs = (
            saved_detector.load_record(models, category, version) for version in (one, other)
        )
    except DetectorError:  # a version that is gone
        return False
    return (_of_scores(ours[0]), ours[1]) == (_of_scores(theirs[0]), theirs[1])


def _of_maps(settings: Settings) -> dict[str, Any]:
    """The settings that scores and maps depend on."""
    return asdict(replace(settings, threshold=_ANY_THRESHOLD, found=FitRecord()))


def _of_scores(settings: Settings) -> dict[str, Any]:
    """The settings that scores depend on. The scales of the form full are of its maps alone."""
    rule = settings.area_rule
    if rule is not None:
        settings = replace(settings, area_rule=AreaRule(usual=rule.usual, scale=_ANY_SCALE))
    return _of_maps(settings)
