"""Pictures of products drawn by the program, for the demo and the benchmarks.

So nothing needs to be fetched to see a detector work. Three products, one of each kind, are drawn
with the variation that a detector must tolerate and with the flaws that it must find.
"""

from vqad.synthetic.dataset import KINDS, defects, draw, draw_archive, draw_defect

__all__ = ["KINDS", "defects", "draw", "draw_archive", "draw_defect"]
