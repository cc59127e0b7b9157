"""The fields of local statistics and of a segmenter that looks at their residuals."""

import torch
from jaxtyping import Float32
from torch import Tensor

from vqad.array_types import Images
from vqad.detection.local_statistics import Field, LocalStatistics, smooth
from vqad.detection.witnesses import LOCAL, SEGMENTER
from vqad.model.segmenter import Segmenter


def local_fields(
    statistics: LocalStatistics,
    segmenter: Segmenter | None,
    images: Images,
) -> list[dict[str, Field]]:
    """The fields of local statistics, and of the segmenter if there is one, of each image."""
    features = statistics.features(images.movedim(1, -1).cpu().numpy())
    distances = statistics.distances(features)
    found = [{LOCAL: field} for field in statistics.fields(distances)]
    if segmenter is None:
        return found
    fields = segmented(segmenter, statistics.residuals(features, distances))
    return [one | {SEGMENTER: field} for one, field in zip(found, fields, strict=True)]


@torch.inference_mode()
def segmented(
    segmenter: Segmenter, residuals: Float32[Tensor, "num channels rows cols"]
) -> list[Field]:
    """One field of each image, its smoothed logits; ``segmenter`` is in evaluation mode."""
    return [smooth(logits) for logits in segmenter(residuals).cpu().numpy()]
