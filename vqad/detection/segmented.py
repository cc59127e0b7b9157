"""The fields of local statistics and of a segmenter that looks at their residuals."""

from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor

from vqad.array_types import Images
from vqad.detection.local_statistics import Field, LocalStatistics, smooth
from vqad.detection.witnesses import LOCAL, SEGMENTER
from vqad.images.placement import Placement, places_of
from vqad.model.segmenter import Segmenter


def local_fields(
    statistics: LocalStatistics | None,
    segmenter: Segmenter | None,
    images: Images,
    placements: Sequence[Placement] | None = None,
) -> list[dict[str, Field]]:
    """The fields of local statistics, and of the segmenter if there is one, of each image."""
    assert statistics is not None  # the detector has refused settings of the full form without
    places = places_of(placements, statistics.config.features.grid) if placements else None
    features = statistics.features(images)
    distances = statistics.distances(features, places)
    found = [{LOCAL: field} for field in statistics.fields(distances)]
    if segmenter is None:
        return found
    fields = segmented(segmenter, statistics.residuals(features, distances, places))
    return [one | {SEGMENTER: field} for one, field in zip(found, fields, strict=True)]


@torch.inference_mode()
def segmented(
    segmenter: Segmenter, residuals: Float32[Tensor, "num channels rows cols"]
) -> list[Field]:
    """One field of each image, its smoothed logits; ``segmenter`` is in evaluation mode."""
    residuals = residuals.to(next(segmenter.parameters()).device)
    return [smooth(logits) for logits in segmenter(residuals).cpu().numpy()]
