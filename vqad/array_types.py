"""Names of the arrays that pass between modules, and of their dimensions.

One name for each thing, in code, tables and command line. The annotations are checked at
call time while the tests run.
"""

from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float, Float32, Int64, Integer
from numpy import ndarray

if TYPE_CHECKING:
    from torch import Tensor
else:
    # Shape and dtype are checked on whatever has them, so that naming an array needs no torch.
    Tensor = Any

# RGB in [0, 1].
Images = Float[Tensor, "batch 3 height width"]
# Encoder output z_e, before the lookup.
Latents = Float[Tensor, "batch dim rows cols"]
# z, each in [0, num_codes).
Codes = Int64[Tensor, "batch rows cols"]
# Unnormalised log-probabilities of every code at every cell.
Logits = Float[Tensor, "batch num_codes rows cols"]
# Of each code given all codes before it in raster order, in [0, 1].
Likelihood = Float[Tensor, "batch rows cols"]
# One truth a cell.
Cells = Bool[Tensor, "batch rows cols"]
# The same four of whole maps, or of a run of cells in each.
SomeCodes = Int64[Tensor, "batch *cells"]
SomeLogits = Float[Tensor, "batch num_codes *cells"]
SomeLikelihood = Float[Tensor, "batch *cells"]
SomeCells = Bool[Tensor, "batch *cells"]
# 8-bit grey levels in [0, 441.7]; 0 means that nothing changed, and no code was a surprisal.
AnomalyMap = Float32[ndarray, "height width"]
# One of several maps, each of the height and width that its image has in the model's input.
OwnMap = Float32[ndarray, "_ _"]
# Decoded picture, RGB; 8 or 16 bits a channel as in its source.
Pixels = Integer[ndarray, "height width 3"]
