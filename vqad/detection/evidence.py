"""What a detector finds in a batch of images, before and after it judges them."""

from collections.abc import Sequence
from dataclasses import dataclass

from vqad.array_types import AnomalyMap, Codes, OwnMap
from vqad.detection.local_statistics import Field
from vqad.detection.surprisal import Surprisal
from vqad.images.placement import Placement


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The results of a batch before maps and scores are made; one entry per image."""

    codes: Codes
    restored_codes: Codes
    differences: list[AnomalyMap]  # eq. 6, filtered; grey levels; of the model's input
    surprisals: list[Surprisal]  # nats; empty in the plain form
    local_fields: list[dict[str, Field]]  # of what needs no network; none but in the full form
    placements: Sequence[Placement] = ()  # of the source images in the model's input


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of inspecting a batch; every list has one entry per image."""

    verdicts: list[str]  # normal or defect
    scores: list[float]  # in the settings' unit, as the maps
    p_values: list[float | None]  # of the scores among those of normal images; see `p_value`
    shares: list[dict[str, float]]  # of each witness in the score; empty but in the full form
    codes_changed: list[int]
    anomaly_maps: list[OwnMap]  # with the precision of `stored_map`
    codes: Codes
    restored_codes: Codes
    placements: Sequence[Placement] = ()  # none of an image that was inspected by tiles
