"""Fifteen more drawn products, which tests and campaigns use beside the three of the library.

They have the names of MVTec AD's categories (4.1) and share their kinds. The functions are those
of `vqad.synthetic` for all eighteen products.
"""

from functools import partial

from tests.drawn.missing_part import missing_part
from tests.drawn.rotatable import ROTATABLE_OBJECTS
from tests.drawn.textures import TEXTURES
from tests.drawn.upright import UPRIGHT_OBJECTS
from vqad.synthetic import dataset
from vqad.synthetic.flaws import chip, crack, dent, hole, misprint, scratch, stain, thread
from vqad.synthetic.products import PRODUCTS, Product, flaws_of

_FLAWS = {
    "carpet": flaws_of(thread, hole, stain),
    "grid": flaws_of(missing_part, thread, dent, stain),
    "leather": flaws_of(scratch, hole, stain, crack),
    "tile": flaws_of(crack, stain, scratch),
    "wood": flaws_of(scratch, hole, stain),
    "metal_nut": flaws_of(scratch, chip, stain, dent),
    "bottle": flaws_of(chip, stain, crack),
    "hazelnut": flaws_of(crack, hole, scratch),
    "screw": flaws_of(scratch, chip, dent),
    "cable": flaws_of(missing_part, hole, scratch),
    "capsule": flaws_of(misprint, scratch, dent, hole),
    "pill": flaws_of(stain, chip, crack, scratch),
    "toothbrush": flaws_of(missing_part, thread, stain),
    "transistor": flaws_of(missing_part, scratch, chip),
    "zipper": flaws_of(missing_part, thread, hole),
}
FIFTEEN: dict[str, Product] = {
    name: Product(kind=kind, design=design, flaws=_FLAWS[name])
    for kind, designs in (
        ("texture", TEXTURES),
        ("rotatable_object", ROTATABLE_OBJECTS),
        ("object", UPRIGHT_OBJECTS),
    )
    for name, design in designs.items()
}
ALL: dict[str, Product] = {**PRODUCTS, **FIFTEEN}
KINDS = {name: product.kind for name, product in ALL.items()}

defects = partial(dataset.defects, products=ALL)
draw = partial(dataset.draw, products=ALL)
draw_defect = partial(dataset.draw_defect, products=ALL)
draw_archive = partial(dataset.draw_archive, products=ALL)
