"""Inspection pictures drawn by the program, for the demo and for tests.

No pictures need to be fetched to see a detector work: eighteen products, fifteen of which bear
the names of MVTec AD's categories (4.1) and share their kinds, are drawn with the variation that
a detector must tolerate and, for testing, with the flaws that it must find.
"""

from vqad.synthetic.dataset import KINDS, defects, draw, draw_archive, draw_defect

__all__ = ["KINDS", "defects", "draw", "draw_archive", "draw_defect"]
