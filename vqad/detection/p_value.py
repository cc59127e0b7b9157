"""How unusual a score is among those of normal images, as a conformal p-value.

    p = (1 + number of normal scores that are at least the image's) / (number of normal scores + 1)

If the image is normal and comparable with the n images of these scores, its p-value is at most a
with a chance of at most a, whatever the distribution of the scores. The smallest p-value is
1 / (n + 1), so n images cannot speak of rarer events than that.
"""

from collections.abc import Sequence

import numpy as np


def p_value(score: float, normal_scores: Sequence[float]) -> float | None:
    """The p-value of a score, in (0, 1]; None if there are no scores of normal images."""
    if not len(normal_scores):
        return None
    # In the type of the tables, so that their column `score` gives the same p-values.
    num_at_least = np.count_nonzero(np.asarray(normal_scores, np.float32) >= np.float32(score))
    return (1 + int(num_at_least)) / (len(normal_scores) + 1)
