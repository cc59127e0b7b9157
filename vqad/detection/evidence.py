"""What a detector finds in a batch of images before it judges them."""

from dataclasses import dataclass

from vqad.array_types import AnomalyMap, Codes
from vqad.detection.local_statistics import Field
from vqad.detection.surprisal import Surprisal


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The results of a batch before maps and scores are made; one entry per image."""

    codes: Codes
    restored_codes: Codes
    differences: list[AnomalyMap]  # eq. 6, filtered; grey levels
    surprisals: list[Surprisal]  # nats; empty in the plain form
    local_fields: list[dict[str, Field]]  # of what needs no network; none but in the full form
