"""What is asked for and what is there: the part of a plan that takes no lease.

Listing, routing, and the detectors that are in force. Nothing is written.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vqad import tables
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import listing, manifests
from vqad.images.routing import Router, Routing, router
from vqad.inspection.job import InspectJob
from vqad.storage import errors, files, uris
from vqad.storage.uris import path_of


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is there, whatever was done of it: the part of a plan that takes no lease."""

    run: str
    listed: Sequence[listing.Listed]
    router: Router
    versions: dict[str, str]
    sizes_px: dict[str, int]


def survey(job: InspectJob) -> Survey:
    """List, route and pin the detectors.

    Raises ValueError for what a user can mend: no images, no way to tell a category, no detector.
    """
    listed, routing = _of_manifest(job) if manifests.is_manifest(job.archive) else _of_place(job)
    ours = [path_of(each) for each in (job.output, job.models, job.routing.manifest) if each]
    listed = [each for each in listed if not _lies_in(path_of(each.image), ours)]
    if not listed:
        raise ValueError(f"no images in {job.archive}{_narrowed(job)}")
    found = _detectors(job, _categories(job, listed, routing))
    return Survey(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        listed=listed,
        router=routing,
        versions={category: version for category, (version, _) in found.items()},
        sizes_px={category: size_px for category, (_, size_px) in found.items()},
    )


def _of_place(job: InspectJob) -> tuple[list[listing.Listed], Router]:
    found = listing.list_archive(
        job.archive, include=job.include, modified_since=job.modified_since
    )
    return found, router(job.archive, job.routing)


def _of_manifest(job: InspectJob) -> tuple[list[listing.Listed], Router]:
    """What the manifest names, wherever that is; it names the categories unless told otherwise."""
    asked = job.routing if job.routing != Routing() else Routing(manifest=job.archive)
    routing = router("", asked)
    named = routing.by_image if asked.manifest == job.archive else manifests.read(job.archive)
    kept = [
        each
        for each in manifests.look_up(named)
        if listing.is_as_new(each, job.modified_since)
        and listing.may_match(routing.path(each.image), job.include)
    ]
    return kept, routing


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _narrowed(job: InspectJob) -> str:
    kept = [f"matching {job.include!r}"] if job.include else []
    if job.modified_since:
        kept.append(f"modified since {job.modified_since.isoformat()}")
    return f" ({', '.join(kept)})" if kept else ""


def _categories(
    job: InspectJob, listed: Sequence[listing.Listed], routing: Router
) -> dict[str, bool]:
    """Categories whose detectors may be needed, and whether an image is known to be of it."""
    if job.routing.category is not None:
        return {job.routing.category: True}
    images = [each.image for each in listed if not listing.is_shard(each.image)]
    certain = {routing.category(image) for image in images} - {tables.UNKNOWN_CATEGORY}
    found = dict.fromkeys(sorted(certain), True)
    if len(images) < len(listed):  # what shards hold is known when they are read
        found |= {name: False for name in _models(job) if name not in found}
    if not found:
        raise ValueError(
            f"the category of no image in {job.archive} can be told: the images lie in no folders;"
            " give --category NAME, --category-pattern REGEX or --manifest URI"
        )
    return found


def _models(job: InspectJob) -> list[str]:
    try:
        return [name for name in files.list_names(job.models) if not name.startswith(".")]
    except errors.ArchiveError:
        return []


def _detectors(job: InspectJob, categories: dict[str, bool]) -> dict[str, tuple[str, int]]:
    """Version and input size of every category that has a detector, each loaded and let go."""
    found: dict[str, tuple[str, int]] = {}
    for category in categories:
        if "/" in category or category.startswith("."):
            continue
        try:
            loaded = Detector.load(job.models, category)
            found[category] = (loaded.version, loaded.settings.vqvae.image_size_px)
        except DetectorError:
            # A broken detector ends the run; one that was never there rejects its images.
            if files.exists(uris.join(job.models, category, "current.json")):
                raise
    if not found:
        wanted = [each for each, is_certain in categories.items() if is_certain] or ["its shards"]
        raise ValueError(
            f"no detector in {job.models} for any of {', '.join(wanted)}; "
            f"there are: {', '.join(_models(job)) or 'none'}; train with vqad train, or give "
            "--category"
        )
    return found
