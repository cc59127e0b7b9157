"""The categories that have a detector in MODELS, and the version of it that is in use."""

from typing import Any, TypeGuard

from vqad.detection.weights import DetectorError, read_json
from vqad.storage import files, models_layout


def saved_categories(models: str) -> list[str]:
    """Sorted categories of the detectors in use, as their records name them.

    A folder's name alone doesn't give the category: where a category can't be a folder's name, it
    has another one. Raises DetectorError where a record is broken or its folder has another name,
    and ArchiveError where MODELS can't be listed.
    """
    found = []
    for folder in filter(models_layout.is_category_folder, files.list_names(models)):
        current = models_layout.current_in(models, folder)
        if files.exists(current):
            found.append(_category_of(models, folder, str(read_json(current).get("version"))))
    return sorted(found)


def _category_of(models: str, folder: str, version: str) -> str:
    if "/" in version or version in ("", ".", ".."):
        current = models_layout.current_in(models, folder)
        raise DetectorError(f'{current} names no version; write {{"version": "NAME"}} into it')
    place = models_layout.version_in(models, folder, version)
    settings = read_json(models_layout.record(place)).get("settings")
    category = settings.get("category") if isinstance(settings, dict) else None
    if not isinstance(category, str) or models_layout.category_folder(category) != folder:
        raise DetectorError(
            f"{place} contains a detector of {category}; move the folder back to where it was saved"
        )
    return category


def has_detector(models: str, category: str) -> bool:
    """True if a version of the category's detector is in use."""
    return files.exists(models_layout.current(models, category))


def current_version(models: str, category: str) -> str:
    """The current version of a category's detector. Raises DetectorError if there is none."""
    uri = models_layout.current(models, category)
    if not files.exists(uri):
        raise DetectorError(
            f"no detector for category {category} in {models}; train one with: "
            f"vqad train --categories {category}"
        )
    version = read_json(uri).get("version")
    if not is_version(version):
        raise DetectorError(f'{uri} names no version; write {{"version": "NAME"}} into it')
    return version


def is_version(version: Any) -> TypeGuard[str]:
    """True if this can be the name of a version: letters and digits with dashes between them."""
    return isinstance(version, str) and version.replace("-", "").isalnum()
