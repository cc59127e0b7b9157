"""Textures of the drawn pictures: a surface that fills the picture, phase and turn at random."""

from functools import partial

import numpy as np
from numpy.random import Generator

from vqad.synthetic.products import closed_surface, woven
from vqad.synthetic.scenes import (
    Design,
    Field,
    Rgb,
    Scene,
    View,
    bevelled,
    over,
    shadowed,
    tint,
)


def mesh(view: View, rng: Generator, *, wire: Rgb, backing: Rgb, meshes: int) -> Scene:
    """Draw two families of slanting wires over a dark ground; a wire is the part to be missed."""
    half_width = 0.19 / meshes * 2
    distance = np.ones_like(view.x)
    for slope in (0.6, -0.6):
        lane = (view.x * slope + view.y * 0.8) * (meshes / 2) + rng.uniform(0, 1)
        from_wire = np.abs(lane - np.round(lane)) * (2 / meshes) - half_width / 2
        distance = np.minimum(distance, from_wire)
    wires = view.inside(distance)
    shade, shine = view.lit(bevelled(distance, half_width / 2), 0.2)
    ground = tint(backing, 1 + 0.05 * view.noise(rng, 12, 12))
    metal = tint(wire, shade * (1 + 0.03 * view.noise(rng, 64, 64)), shine)
    image = over(shadowed(ground, wires, 0.5), wires, metal)
    everywhere = np.ones_like(view.x)
    return Scene(image=image, background=ground, bare=ground, body=everywhere, part=wires)


def grained(view: View, rng: Generator, *, colour: Rgb, grains: int) -> Scene:
    """Draw pebbles parted by creases, as of leather."""
    pebbles = np.minimum(np.abs(view.noise(rng, grains, grains)) * 2.5, 1)
    pebbles += 0.4 * np.abs(view.noise(rng, 2 * grains, 2 * grains))
    shade, shine = view.lit(view.blurred(pebbles, 0.02) * (0.35 / grains), 0.08)
    image = tint(colour, shade * (0.72 + 0.24 * pebbles), shine)
    return closed_surface(view, image, backing=(40, 30, 25))


def speckled(view: View, rng: Generator, *, colours: tuple[Rgb, ...], spots: int) -> Scene:
    """Draw polished stone: spots of several colours and sizes in a ground of the first colour."""
    image = tint(colours[0], 1 + 0.03 * view.noise(rng, 8, 8))
    for number, colour in enumerate(colours[1:]):
        cells = round(spots * (1 + 0.4 * number))
        spot = np.clip((view.noise(rng, cells, cells) - 0.5) * 6, 0, 1)
        image = over(image, spot, tint(colour, np.ones_like(spot)))
    return closed_surface(view, image, backing=(60, 58, 55))


def grown(view: View, rng: Generator, *, light: Rgb, dark: Rgb, rings: int) -> Scene:
    """Draw wood cut lengthwise: wavering rings, and pores along them."""
    waver = 0.05 * view.noise(rng, 5, 3) + 0.010 * view.noise(rng, 16, 6)
    ring = np.mod((view.x + waver) * (rings / 2) + rng.uniform(0, 1), 1)
    late: Field = ring * ring * (1 - np.clip((ring - 0.85) * 7, 0, 1))
    pores = 1 + 0.05 * view.noise(rng, 110, 10) + 0.03 * view.noise(rng, 50, 4)
    image = over(tint(light, pores), 0.75 * late, tint(dark, pores))
    return closed_surface(view, image, backing=(45, 30, 20))


_STONES = ((198, 196, 190), (128, 124, 120), (58, 56, 58), (232, 230, 224))
TEXTURES: dict[str, Design] = {
    "carpet": partial(
        woven, warp=(122, 118, 116), weft=(88, 80, 78), threads=26, over_under=2, fuzz=0.16
    ),
    "grid": partial(mesh, wire=(196, 198, 196), backing=(62, 64, 66), meshes=9),
    "leather": partial(grained, colour=(128, 76, 48), grains=30),
    "tile": partial(
        speckled,
        colours=((198, 196, 190), (128, 124, 120), (58, 56, 58), (232, 230, 224)),
        spots=16,
    ),
    "wood": partial(grown, light=(196, 150, 104), dark=(128, 82, 50), rings=9),
}
