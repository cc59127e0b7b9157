"""The survey before a plan: list the archive, route its images, find the current detectors.

A survey needs no lease: it writes nothing and reads nothing of the output.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from vqad import tables
from vqad.detection.saved_categories import has_detector, saved_categories
from vqad.detection.settings import Settings
from vqad.detection.weights import DetectorError
from vqad.detector import Detector, device
from vqad.images import listing, manifests
from vqad.images.placement import ImageForm
from vqad.images.routing import Router, Routing, router
from vqad.inspection import shadow
from vqad.inspection.job import InspectJob
from vqad.inspection.shadow import NONE, Shadows
from vqad.model.bfloat16 import computed_by
from vqad.storage import errors, lease, uris

_MOST_SUFFIXES: Final = 10  # that are named in one line


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything that was found before the output is looked at."""

    run: str  # name of the new run
    listed: Sequence[listing.Listed]
    left_out: Counter[str]  # files of the archive that are no images, by suffix
    router: Router
    versions: dict[str, str]  # of the current detector, by category; pinned for the whole run
    forms: dict[str, ImageForm]  # of the images that this detector takes, by category
    shadows: Shadows = NONE  # second detectors
    # How the networks of a category compute, where this machine is slow in their number format.
    slow_formats: dict[str, str] = field(default_factory=dict)


def survey(job: InspectJob) -> Survey:
    """List the images, find their categories, and pin the detectors.

    Raises ValueError where there are no images, no category or no detector.
    """
    is_manifest = manifests.is_manifest(job.archive)
    archive, routing = _read_manifest(job) if is_manifest else _list_archive(job)
    listed = archive.listed
    if not listed:
        seen = f", but {left_out_text(archive.left_out)}" if archive.left_out else ""
        raise ValueError(f"no images in {job.archive}{_filters(job)}{seen}")
    detectors = _detectors(job, _categories(job, listed, routing))
    versions = {category: version for category, (version, _) in detectors.items()}
    forms = {category: settings.image_form for category, (_, settings) in detectors.items()}
    return Survey(
        run=lease.new_run(),
        listed=listed,
        left_out=archive.left_out,
        router=routing,
        versions=versions,
        forms=forms,
        shadows=shadow.pinned(job.models, job.shadow, versions, forms),
        slow_formats=_slow_formats({name: each for name, (_, each) in detectors.items()}),
    )


def left_out_text(left_out: Counter[str]) -> str:
    """The files that are no images, counted by suffix, such as "3 other files (.tga 2, .txt 1)"."""
    counts = left_out.most_common(_MOST_SUFFIXES)
    # Percent-encoded: a suffix may contain anything, and this is shown on a terminal.
    named = [f"{uris.encoded(suffix) or 'no suffix'} {number}" for suffix, number in counts]
    rest = left_out.total() - sum(number for _, number in counts)
    named += [f"others {rest}"] if rest else []
    return f"{left_out.total()} other file{'s' * (left_out.total() > 1)} ({', '.join(named)})"


def _ours(job: InspectJob) -> list[str]:
    """Places that may be below the archive but are not of it."""
    return [each for each in (job.output, job.models, job.routing.manifest) if each]


def _list_archive(job: InspectJob) -> tuple[listing.Archive, Router]:
    archive = listing.list_archive(
        job.archive,
        include=job.include,
        modified_since=job.modified_since,
        outside=_ours(job),
    )
    return archive, router(job.archive, job.routing)


def _read_manifest(job: InspectJob) -> tuple[listing.Archive, Router]:
    """The images that a manifest names, with its categories unless the job routes otherwise."""
    asked = job.routing if job.routing != Routing() else Routing(manifest=job.archive)
    routing = router("", asked)
    named = routing.by_image if asked.manifest == job.archive else manifests.read(job.archive)
    ours = [uris.path_of(each) for each in _ours(job)]
    listed = [
        each
        for each in manifests.look_up(named)
        if listing.is_as_new(each, job.modified_since)
        and listing.may_match(routing.path(each.image), job.include)
        and not listing.is_in(each.image, ours)
    ]
    return listing.Archive(listed=listed, left_out=Counter()), routing


def _filters(job: InspectJob) -> str:
    """The options that may have excluded all images, for an error text."""
    filters = [f"matching {job.include!r}"] if job.include else []
    if job.modified_since:
        filters.append(f"modified since {job.modified_since.isoformat()}")
    return f" ({', '.join(filters)})" if filters else ""


def _categories(
    job: InspectJob, listed: Sequence[listing.Listed], routing: Router
) -> dict[str, bool]:
    """Categories whose detectors may be needed; True where an image is known to be of it."""
    if job.routing.category is not None:
        return {job.routing.category: True}
    images = [each.image for each in listed if not listing.is_shard(each.image)]
    certain = {routing.category(image) for image in images} - {tables.UNKNOWN_CATEGORY}
    found = dict.fromkeys(sorted(certain), True)
    if len(images) < len(listed):  # the members of shards are not known before they are read
        found |= {name: False for name in _saved(job.models) if name not in found}
    if not found:
        raise ValueError(
            f"cannot tell the category of any image in {job.archive}: they are not in category "
            "folders; give --category NAME, --category-pattern REGEX or --manifest URI"
        )
    return found


def _saved(models: str) -> list[str]:
    try:
        return saved_categories(models)
    except errors.ArchiveError:  # no such folder
        return []


def _saved_names(models: str) -> str:
    try:
        return ", ".join(_saved(models)) or "none"
    except DetectorError:  # a broken detector of another category is not what is to be said
        return "some that are broken"


def _slow_formats(settings: dict[str, Settings]) -> dict[str, str]:
    formats = {
        category: computed_by(each.precision, torch.device(device()))
        for category, each in settings.items()
    }
    return {
        category: text for category, text in formats.items() if text != settings[category].precision
    }


def _detectors(job: InspectJob, categories: dict[str, bool]) -> dict[str, tuple[str, Settings]]:
    """Version and settings of each category's detector; each is loaded once to check it."""
    found: dict[str, tuple[str, Settings]] = {}
    for category in categories:
        try:
            detector = Detector.load(job.models, category)
            found[category] = (detector.version, detector.settings)
        except DetectorError:
            # A damaged detector ends the run; where there is none, the images are rejected.
            if has_detector(job.models, category):
                raise
    if not found:
        wanted = [name for name, is_certain in categories.items() if is_certain] or ["its shards"]
        raise ValueError(
            f"no detector in {job.models} for any of {', '.join(wanted)}; "
            f"there are: {_saved_names(job.models)}; "
            "train one with vqad train, or give --category"
        )
    return found
