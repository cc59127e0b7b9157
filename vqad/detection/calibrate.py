"""What a detector takes from held-out normal images: which they are, its threshold and its eta.

Nothing here ever sees a test image or a label. The defects that eta is searched on are grey and
black rectangles painted onto held-out normal images (4.3.3, figure 5).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vqad.array_types import AnomalyMap
from vqad.detection import surprisal
from vqad.detection.surprisal import Surprisal, Usual
from vqad.model.kinds import Kind

SMALLEST_THRESHOLD = 1.0  # one step of an 8-bit picture
DEFAULT_ETA = 5e-4


def threshold(
    scores: Sequence[float], *, quantile: float = 1.0, smallest: float = SMALLEST_THRESHOLD
) -> float:
    """The score above which an image is a defect (section 4.2).

    The paper raises the threshold until the largest component of any held-out normal map equals
    the minimum area: that is the largest of their scores. A smaller ``quantile`` tolerates odd
    images among the held-out ones. ``smallest`` is for scores in other units than grey levels.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"threshold_quantile must be in (0, 1], got {quantile}")
    if not len(scores):
        raise ValueError("no held-out images to set a threshold from")
    value = np.quantile(np.asarray(scores, np.float64), quantile)
    # As the tables hold it, so that a reader who compares again gets the same verdict.
    return max(smallest, float(np.float32(value)))


def usual_of(
    differences: Sequence[AnomalyMap],
    surprisals: Sequence[Surprisal],
    kind: Kind,
    *,
    eta: float,
    score: Callable[[AnomalyMap], float],
) -> tuple[Usual, list[AnomalyMap]]:
    """What is usual on held-out normal images, and their maps in the joined form.

    Each is judged by what is usual on the others, as a new image will be. The fine look's share
    makes its largest score that of the broad look, where it is not smaller anyway.
    """
    others = [
        surprisal.usual([*surprisals[:at], *surprisals[at + 1 :]] or [_flat(one)], kind, eta=eta)
        for at, one in enumerate(surprisals)
    ]
    looked = list(zip(differences, surprisals, others, strict=True))
    size_px = differences[0].shape[0]
    broad = [surprisal.broad_map(*each, eta=eta) for each in looked]
    fine = [surprisal.fine_map(*each[1:], eta=eta, size_px=size_px) for each in looked]
    largest = [max(map(score, maps)) for maps in (broad, fine)]
    share = min(1.0, max(largest[0], SMALLEST_THRESHOLD) / max(largest[1], SMALLEST_THRESHOLD))
    usual = replace(surprisal.usual(surprisals, kind, eta=eta), fine_share=share)
    maps = [
        np.maximum(one, np.float32(share) * each) for one, each in zip(broad, fine, strict=True)
    ]
    return usual, maps


def _flat(surprisal: Surprisal) -> Surprisal:
    # Nobody else tells what is usual where; the image itself tells what is on the whole.
    return np.full_like(surprisal, surprisal.mean())
