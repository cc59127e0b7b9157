"""The form `full` with each witness alone, and with each left out, to measure what each adds.

The evidence of an image is computed once, and each variant joins the fields of its own witnesses,
with their standards and weights as they are in the detector. Score, map and threshold of a variant
follow from normal images by the rule of the training (`FullForm.rule`).

The detector's own local statistics have seen all normal images, and find each of them too normal.
So the normal images are measured as at the training: by local statistics and segmenters that are
fitted again, each time without the images that they are to measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from vqad.array_types import Images
from vqad.detection import area_score
from vqad.detection.area_score import AreaRule
from vqad.detection.settings import GREY_LEVELS
from vqad.detection.witnesses import Witness, join_fields
from vqad.detector import Detector
from vqad.evaluation.ablations import BatchResult
from vqad.images.placement import Size
from vqad.training import full_form
from vqad.training.full_form import NormalImages
from vqad.training.options import recorded_options
from vqad.training.presets import preset_of

THRESHOLDS: Final = (
    "The threshold of each rests on normal images, by the rule of the training: the held-out "
    f"images and up to {full_form.MOST_TRAINING_IMAGES} training images, measured by local "
    "statistics and segmenters that were fitted again without them. The weights are those of the "
    "detector."
)
_ALONE: Final = " alone"
_WITHOUT: Final = "without "


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Some of a detector's witnesses, and how their joined field becomes a verdict."""

    witnesses: tuple[Witness, ...]
    rule: AreaRule
    threshold: float  # deviations of normal images, from 10


def subsets(witnesses: Sequence[Witness]) -> dict[str, tuple[Witness, ...]]:
    """Each witness alone, and all but one of them, by the names of the variants."""
    found: dict[str, tuple[Witness, ...]] = {}
    if len(witnesses) > 1:
        found |= {f"{each.name}{_ALONE}": (each,) for each in witnesses}
    if len(witnesses) > 2:  # of two witnesses, all but one of them is the other one alone
        for each in witnesses:
            found[f"{_WITHOUT}{each.name}"] = tuple(one for one in witnesses if one != each)
    return found


def is_variant(method: str) -> bool:
    """True if a method of an evaluation is named as one of the variants."""
    return method.endswith(_ALONE) or method.startswith(_WITHOUT)


def fit_variants(detector: Detector, normal: NormalImages) -> dict[str, Variant]:
    """Fit rule and threshold of each variant of a detector of the form full to normal images."""
    settings = detector.settings
    options = recorded_options(settings.found.options, settings.category)
    joined = detector.with_settings(form="joined", unit=GREY_LEVELS, threshold=0.0)
    preset = preset_of(options.preset)
    segmenter = preset.segmenter if detector.segmenter else None
    full = full_form.fit(
        normal,
        joined,
        options,
        segmenter=segmenter,
        num_copies=preset.num_copies,
        aligned=settings.aligned,
    )
    found = {}
    for name, some in subsets(settings.witnesses).items():
        rule, threshold, _ = full.rule(
            some,
            options,
            size_px=settings.vqvae.image_size_px,
            minimum_area_px=settings.minimum_area_px,
        )
        found[name] = Variant(witnesses=some, rule=rule, threshold=threshold)
    return found


@torch.inference_mode()
def inspect(
    detector: Detector,
    variants: Mapping[str, Variant],
    images: Images,
    sources: Sequence[Size] | None = None,
) -> dict[str, BatchResult]:
    """Scores and maps of a batch (batch, 3, size, size) by all variants, from one evidence."""
    evidence = detector.evidence(images, detector.placements(images, sources))
    fields = detector.witness_fields(evidence)
    found = {}
    for name, variant in variants.items():
        scores, maps = area_score.judged(
            [join_fields(each, variant.witnesses) for each in fields],
            variant.rule,
            size_px=detector.settings.vqvae.image_size_px,
            minimum_area_px=detector.settings.minimum_area_px,
            placements=evidence.placements,
        )
        found[name] = BatchResult(scores=scores, maps=maps)
    return found
