"""The survey before an evaluation: which categories can be evaluated, and why others cannot.

Everything that can be found out from names and detectors is found out here, so that a missing mask
costs no hour of inspecting. A category that cannot be evaluated does not keep the others from it.
"""

from dataclasses import dataclass

from vqad.detection.saved_categories import has_detector
from vqad.detection.settings import Settings
from vqad.detector import Detector
from vqad.evaluation import results
from vqad.evaluation.job import EvaluateJob
from vqad.evaluation.labelled_images import LabelledImages, has_tests, labelled_images
from vqad.storage import files
from vqad.storage.errors import VqadError
from vqad.storage.uris import encoded
from vqad.training import holdout


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The categories of one evaluation."""

    labelled: dict[str, LabelledImages]  # by category
    failed: dict[str, str]  # the reason, by category that cannot be evaluated


def survey(job: EvaluateJob) -> Survey:
    """Look for the test images, masks and detectors of all categories.

    Raises ValueError if no category can be evaluated.
    """
    labelled, failed = {}, {}
    for category in job.categories or _categories(job):
        try:
            labelled[category] = _look_at(job, category)
        except (VqadError, ValueError) as error:
            failed[category] = str(error)
    if not labelled:
        raise ValueError(describe_failed(failed))
    return Survey(labelled=labelled, failed=failed)


def describe_failed(failed: dict[str, str]) -> str:
    """One line on the categories that could not be evaluated."""
    reasons = "; ".join(f"{category}: {reason}" for category, reason in failed.items())
    return f"could not be evaluated: {reasons}"


def _categories(job: EvaluateJob) -> list[str]:
    found = [
        name
        for name in files.list_names(job.data)
        if has_tests(job.data, name) and (job.verdicts or has_detector(job.models, name))
    ]
    if not found:
        raise ValueError(
            f"no category of {job.data} has both test images, such as DATA/CATEGORY/test, and a "
            f"detector in {job.models}"
        )
    return found


def _look_at(job: EvaluateJob, category: str) -> LabelledImages:
    """The category's test images. Raises VqadError or ValueError if it can't be evaluated."""
    if job.verdicts:
        results.check_tables(job.verdicts, category)
    settings = Detector.load(job.models, category).settings if job.models else None
    if settings and (job.baselines or job.ablations):
        holdout.split(job.data, settings)
    found = labelled_images(job.data, category)
    if settings:
        _check_unseen(found, settings)
    return found


def _check_unseen(labelled: LabelledImages, settings: Settings) -> None:
    """Refuse test images that the detector was trained on, as far as its record names those."""
    # The images may have been elsewhere then: what counts is the path below the category.
    category = labelled.category
    known = {_path_below(category, image) for image in settings.found.held_out}
    seen = [each.image for each in labelled.images if _path_below(category, each.image) in known]
    if seen:
        raise ValueError(
            f"the detector was trained on {len(seen)} or more of the test images, such as "
            f"{seen[0]}; train it on others"
        )


def _path_below(category: str, image: str) -> str:
    return image.rpartition(f"/{encoded(category)}/")[2]
