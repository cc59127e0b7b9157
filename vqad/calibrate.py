"""What a detector takes from held-out normal images: which they are, its threshold and its eta.

Nothing here ever sees a test image or a label. The defects that eta is searched on are grey and
black rectangles painted onto held-out normal images (4.3.3, figure 5).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from vqad import surprise
from vqad.augment import Kind
from vqad.shapes import AnomalyMap
from vqad.surprise import Surprise, Usual

SHARE_HELD_OUT = 0.1
FEWEST_HELD_OUT = 10  # fewer than this set a threshold that one odd image decides; a warning
SMALLEST_THRESHOLD = 1.0  # one step of an 8-bit picture
DEFAULT_ETA = 5e-4
# Two values a decade from 1e-5 to 1e-2, and the paper's.
ETA_GRID = (1e-5, 3e-5, 1e-4, 3e-4, 5e-4, 1e-3, 3e-3, 1e-2)
RECTANGLE_SHARE = 0.01  # of the image's area


def hold_out(names: Sequence[str], *, seed: int, group: str | None = None) -> list[int]:
    """Positions of the tenth of the images that is kept from training, at least one.

    ``group`` is a pattern whose first group names what must stay on one side, such as the part in
    several exposures of it; a name that it does not match is a group of its own.
    """
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found = re.search(group, name) if group else None
        groups.setdefault((found and found.group(1)) or name, []).append(position)
    if len(groups) < 2:
        raise ValueError(
            f"{len(names)} images in {len(groups)} group(s): at least 2 are needed, "
            "one to learn from and one to hold out"
        )
    # Sorted first: the choice hangs on names and seed, not on the order of a listing.
    order = sorted(groups)
    np.random.default_rng(seed).shuffle(order)
    held_out: list[int] = []
    for name in order[: len(order) - 1]:
        if held_out and len(held_out) >= round(SHARE_HELD_OUT * len(names)):
            break
        held_out += groups[name]
    return sorted(held_out)


def check_group(pattern: str) -> None:
    """Refuse a pattern that could never name a group."""
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"heldout_group {pattern!r} is no pattern: {error}") from error
    if not num_groups:
        raise ValueError(
            f"heldout_group needs a group that names what stays together, such as "
            f"'(part[0-9]+)_', got {pattern!r}"
        )


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
    surprises: Sequence[Surprise],
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
        surprise.usual([*surprises[:at], *surprises[at + 1 :]] or [_flat(one)], kind, eta=eta)
        for at, one in enumerate(surprises)
    ]
    looked = list(zip(differences, surprises, others, strict=True))
    size_px = differences[0].shape[0]
    broad = [surprise.broad_map(*each, eta=eta) for each in looked]
    fine = [surprise.fine_map(*each[1:], eta=eta, size_px=size_px) for each in looked]
    largest = [max(map(score, maps)) for maps in (broad, fine)]
    share = min(1.0, max(largest[0], SMALLEST_THRESHOLD) / max(largest[1], SMALLEST_THRESHOLD))
    usual = replace(surprise.usual(surprises, kind, eta=eta), fine_share=share)
    maps = [
        np.maximum(one, np.float32(share) * each) for one, each in zip(broad, fine, strict=True)
    ]
    return usual, maps


def _flat(surprise: Surprise) -> Surprise:
    # Nobody else tells what is usual where; the image itself tells what is on the whole.
    return np.full_like(surprise, surprise.mean())


def painted(images: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paint one black or grey rectangle of 1 % of the area onto each image (figure 5).

    Images (num, height, width, 3) in [0, 1]; returns them painted, and masks (num, height, width).
    """
    rng = np.random.default_rng(seed)
    images, masks = images.copy(), np.zeros(images.shape[:3], bool)
    height, width = images.shape[1:3]
    for image, mask in zip(images, masks, strict=True):
        aspect = rng.uniform(0.5, 2)
        tall = min(height, max(1, round(np.sqrt(RECTANGLE_SHARE * height * width * aspect))))
        wide = min(width, max(1, round(RECTANGLE_SHARE * height * width / tall)))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        image[top : top + tall, left : left + wide] = rng.choice([0.0, 0.5])
        mask[top : top + tall, left : left + wide] = True
    return images, masks


def search_eta(maps_at: Callable[[float], np.ndarray], masks: np.ndarray) -> tuple[float, float]:
    """The eta of the grid with the best pixel AUROC on painted images, and that AUROC.

    ``maps_at`` gives their anomaly maps (num, height, width) at an eta. Of equal ones the nearest
    to the paper's, by ratio.
    """
    found = [(float(roc_auc_score(masks.ravel(), maps_at(eta).ravel())), eta) for eta in ETA_GRID]
    auroc, eta = max(found, key=lambda at: (at[0], -abs(np.log(at[1] / DEFAULT_ETA))))
    return eta, auroc
