"""What normal images look like to a detector, recorded when it is fitted, for comparing nights.

The histogram of codes is that of held-out images: the networks have not seen them, as they have not
seen those of a night. How far the histogram of other normal images may be from it by chance follows
from the distances between random halves of the held-out images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Integer

# Codes that the held-out images have less often count as one code. Of each of them chance decides,
# and then the distance does not shrink with the number of images as expected. The usual rule of
# a chi-squared test.
FEWEST_OF_A_CODE: Final = 5
_NUM_SPLITS: Final = 200  # into random halves
FEWEST_TO_SPLIT: Final = 4  # images

Counts = Integer[np.ndarray, " num_codes"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation of a number over images."""

    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class ExpectedDistance:
    """How far a histogram of codes is from that of the held-out images by chance."""

    mean: float
    # Standard deviations, by the choice of the images and by that of the held-out images. The
    # second is the same for all nights.
    error_of_images: float
    error_of_held_out: float


@dataclass(frozen=True, kw_only=True)
class NormalStatistics:
    """Normal images of a training in numbers."""

    num_images: int  # whose appearance was measured
    brightness: Spread  # as in `vqad.images.appearance`
    contrast: Spread
    sharpness: Spread
    num_held_out: int
    code_counts: list[int]  # of the held-out images: how often they have each code
    # Jensen-Shannon distances between the histograms of random halves of the held-out images; None
    # if these are too few.
    half_distance: Spread | None

    def distance(self, counts: Counts) -> float:
        """The Jensen-Shannon distance of a histogram of codes from that of the held-out images."""
        expected = np.asarray(self.code_counts)
        rare = expected < FEWEST_OF_A_CODE
        return jensen_shannon(_merged(counts, rare), _merged(expected, rare))

    def expected_distance(self, num_images: int) -> ExpectedDistance | None:
        """The distance of so many other normal images, by chance alone; None if not known.

        Its square is a sum of squared sampling errors, and these fall with the number of images:
        d(n, m)^2 = c (1/n + 1/m). Halves of m images, n = m = m/2, say what c is.
        """
        if self.half_distance is None:
            return None
        halves = 4 / self.num_held_out
        of_images, of_held_out = (1 / num / halves for num in (num_images, self.num_held_out))
        return ExpectedDistance(
            mean=self.half_distance.mean * math.sqrt(of_images + of_held_out),
            error_of_images=self.half_distance.deviation * math.sqrt(of_images),
            error_of_held_out=self.half_distance.deviation * math.sqrt(of_held_out),
        )


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """The Jensen-Shannon distance of two histograms, in [0, 1]: the root of the divergence in bits.

    0 for equal shares, 1 for histograms without a common code.
    """
    shares = [each / max(each.sum(), 1) for each in (one, other)]
    middle = (shares[0] + shares[1]) / 2
    bits = 0.0
    for share in shares:
        some = share > 0
        bits += 0.5 * float((share[some] * np.log2(share[some] / middle[some])).sum())
    return math.sqrt(min(max(bits, 0.0), 1.0))


def half_distance(
    histograms: Integer[np.ndarray, "images num_codes"], *, seed: int
) -> Spread | None:
    """Distances between random halves of images; None with fewer than ``FEWEST_TO_SPLIT``."""
    num = len(histograms)
    if num < FEWEST_TO_SPLIT:
        return None
    rare = histograms.sum(0) < FEWEST_OF_A_CODE
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(_NUM_SPLITS):
        order = rng.permutation(num)
        halves = [histograms[order[at : at + num // 2]].sum(0) for at in (0, num // 2)]
        distances.append(jensen_shannon(*(_merged(each, rare) for each in halves)))
    return Spread(mean=float(np.mean(distances)), deviation=float(np.std(distances, ddof=1)))


def spread(values: Sequence[float] | np.ndarray) -> Spread:
    """Mean and standard deviation of one number per image."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return Spread(mean=float(np.mean(values)), deviation=float(deviation))


def _merged(counts: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """The counts of the codes that are not rare, and the sum of the others."""
    return np.append(counts[~rare], counts[rare].sum())
