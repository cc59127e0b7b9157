"""How severe the verdicts of an output are, as columns."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from numpy import ndarray


def severity(rows: pa.Table) -> Float64[ndarray, " n"]:
    """The score of each row in multiples of its threshold; NaN for a reject.

    With a threshold of 0 every score above 0 is a defect: its severity is infinite, else 0.
    """
    scores, thresholds = (_floats(rows[name]) for name in ("score", "threshold"))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = scores / thresholds
    found[thresholds == 0] = np.where(scores[thresholds == 0] > 0, np.inf, 0.0)
    return found


def _floats(column: pa.ChunkedArray) -> Float64[ndarray, " n"]:
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
