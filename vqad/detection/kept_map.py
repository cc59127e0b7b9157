"""The map that an inspection with another threshold would give, from a map that was kept.

In the forms plain and joined a map does not depend on the threshold. In the form full, maps are
changed where they would contradict the verdict (`area_score.agreeing_map`), and what was changed is
not kept. Where the other map depends on that, only an inspection can make it:

- A normal image's map was lowered to its threshold, and with the new one the image is a defect.
- A defect's map was raised above its threshold, and the new one is lower.

In all other cases the map follows from the kept one, in bits. One more map may differ from that of
a new inspection, but contradicts no verdict: that of a normal image which was lowered, or raised,
under a threshold below the new one. It has no regions, and is left as it is.
"""

import numpy as np

from vqad.array_types import AnomalyMap
from vqad.detection import area_score


def kept_map(
    stored: AnomalyMap,
    *,
    image_score: float,
    made_at: float,
    threshold: float,
    minimum_area_px: int,
) -> AnomalyMap | None:
    """The map of the form full for a new threshold; None if the stored one does not tell.

    ``made_at`` is the threshold that the stored one was made with.
    """
    if threshold == made_at:
        return stored
    if threshold < made_at and image_score > threshold:
        was_defect = image_score > made_at
        towards = np.float32(np.inf if was_defect else 0)
        # Pixels that were changed have this value; of others hardly any has it by chance.
        if np.any(stored == np.nextafter(np.float32(made_at), towards)):
            return None
    return area_score.agreeing_map(
        stored, image_score=image_score, threshold=threshold, minimum_area_px=minimum_area_px
    )
