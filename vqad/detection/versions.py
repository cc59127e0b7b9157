"""The saved versions of a category's detector, and how one of them comes into force.

A version is checked before it is put in force: one that does not load is refused. `promote` and
`rollback` ask nothing else; reasons that come from images are asked for by their callers.
"""

from dataclasses import dataclass

from vqad.detection import saved_detector
from vqad.detection.saved_categories import is_version
from vqad.detection.settings import Settings
from vqad.detection.weights import DetectorError, read_json
from vqad.storage import files, models_layout, promotions, uris
from vqad.storage.promotions import Change


@dataclass(frozen=True, kw_only=True)
class SavedVersion:
    """One saved version. Its weights were not read."""

    version: str
    in_force: bool
    settings: Settings | None  # None if its record can't be read
    error: str = ""  # why it can't be read

    @property
    def made_by(self) -> str:
        """How the version came about, for people."""
        if self.settings is None:
            return self.error
        found = self.settings.found
        if found.threshold and found.threshold.from_version:
            return f"other threshold of {found.threshold.from_version} ({found.threshold.rule})"
        if found.calibrated_from:
            return f"calibrated from {found.calibrated_from}"
        return f"trained by {found.run}" if found.run else "saved"


def promote(models: str, category: str, version: str, *, who: str, why: str) -> Change | None:
    """Put a saved version in force and log it; None if it is in force already.

    Raises DetectorError for a version that is not there or does not load, then nothing is changed.
    """
    check_loads(models, category, version)
    return promotions.put_in_force(models, category, version, who=who, why=why)


def rollback(models: str, category: str, *, who: str, why: str) -> Change:
    """Put the version in force that was so before the last promotion, and log it.

    A second rollback goes back to the one before that. Raises InForceError if the log knows no
    earlier version, and DetectorError if that one does not load any more.
    """
    now = promotions.version_in_force(models, category)
    version = promotions.version_before(models, category)
    check_loads(models, category, version)
    change = promotions.put_in_force(
        models, category, version, who=who, why=why, action="rollback", only_from=now
    )
    assert change is not None, version
    return change


def check_loads(models: str, category: str, version: str) -> None:
    """Raise DetectorError if a version is not there, or is not whole."""
    names = version_names(models, category)
    if version not in names:
        raise DetectorError(
            f"{category} has no version {version} in {models}; "
            f"there are: {', '.join(names) or 'none'}"
        )
    saved_detector.load(models, category, version)


def saved_versions(models: str, category: str) -> list[SavedVersion]:
    """Every saved version, the oldest first."""
    in_force = promotions.version_in_force(models, category)
    return [
        _saved_version(models, category, version, in_force=version == in_force)
        for version in version_names(models, category)
    ]


def newest_version(models: str, category: str) -> str:
    """The version that was saved last; "" if there is none."""
    return next(iter(reversed(version_names(models, category))), "")


def version_names(models: str, category: str) -> list[str]:
    """The names of all versions that were saved to their end, the oldest first."""
    return _version_names(models, models_layout.category_folder(category))


def _version_names(models: str, folder: str) -> list[str]:
    place = models_layout.category_in(models, folder)
    if not files.exists(place):
        return []
    children = files.list_children(place)
    # The record is written last. The time of saving is at the beginning of a version's name.
    return sorted(
        name
        for name, is_folder in children.items()
        if is_folder
        and is_version(name)
        and files.exists(models_layout.record(uris.join(place, name)))
    )


def _saved_version(models: str, category: str, version: str, *, in_force: bool) -> SavedVersion:
    try:
        settings = saved_detector.load_settings(models, category, version)
    except DetectorError as error:
        return SavedVersion(version=version, in_force=in_force, settings=None, error=str(error))
    return SavedVersion(version=version, in_force=in_force, settings=settings)


def categories(models: str) -> list[str]:
    """Sorted categories with a saved version, whether one is in force or not.

    A category whose records are all broken is named by its folder. Raises ArchiveError where
    MODELS can't be listed.
    """
    children = files.list_children(models)
    folders = [name for name, is_folder in children.items() if is_folder]
    found = {folder: _version_names(models, folder) for folder in folders if _is_category(folder)}
    return sorted(_category_of(models, folder, names) for folder, names in found.items() if names)


def _is_category(folder: str) -> bool:
    return models_layout.is_category_folder(folder)


def _category_of(models: str, folder: str, versions: list[str]) -> str:
    for version in reversed(versions):
        place = models_layout.version_in(models, folder, version)
        try:
            settings = read_json(models_layout.record(place)).get("settings")
        except DetectorError:
            continue
        category = settings.get("category") if isinstance(settings, dict) else None
        if isinstance(category, str) and models_layout.category_folder(category) == folder:
            return category
    return folder
