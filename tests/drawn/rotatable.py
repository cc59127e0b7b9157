"""Objects of the drawn pictures that may be put down at any angle; the light stays."""

from functools import partial

import numpy as np
from numpy.random import Generator

from vqad.synthetic.products import ring
from vqad.synthetic.scenes import (
    Design,
    Rgb,
    Scene,
    View,
    ground,
    over,
    placed,
    profile,
    tint,
)


def mouth(view: View, rng: Generator, *, table: Rgb, glass: Rgb) -> Scene:
    """Draw a bottle from above: rings of dark glass around a brighter bottom."""
    radius = np.hypot(view.x, view.y)
    stops = [0.00, 0.20, 0.36, 0.40, 0.50, 0.54, 0.60, 0.70, 0.74, 0.80, 0.86]
    light = [1.30, 1.25, 0.90, 0.30, 0.25, 0.95, 0.45, 0.35, 1.00, 0.55, 0.20]
    shade = profile(radius, stops, light) * (1 + 0.02 * view.noise(rng, 20, 20))
    glint = np.clip(np.cos(2 * view.camera_angle - 1.8), 0, 1) ** 6
    shine = 120 * glint * np.exp(-(((radius - 0.66) / 0.03) ** 2))
    body = view.inside(radius - 0.84)
    return placed(ground(view, rng, table), body, tint(glass, shade, shine))


def hazelnut(view: View, rng: Generator, *, table: Rgb, skin: Rgb, base: Rgb) -> Scene:
    """Draw a hazelnut: a striped dome, and its pale, rough base as the part."""
    x, y = view.x, view.y
    reach = np.hypot(x / (0.60 - 0.10 * y), y / 0.68)
    shade, shine = view.lit(0.36 * np.sqrt(np.clip(1 - reach * reach, 0, 1)), 0.35)
    meridian = x / np.sqrt(np.clip(1 - (y / 0.74) ** 2, 0.05, 1))
    stripes = np.cos(26 * meridian + rng.uniform(0, 6)) * (1 + 0.5 * view.noise(rng, 8, 4))
    brown = tint(skin, shade * (1 + 0.09 * stripes), shine)
    rough = tint(base, shade * (1 + 0.06 * view.noise(rng, 50, 50)))
    cap = view.inside(0.36 - y + 0.25 * x * x + 0.02 * view.noise(rng, 12, 12))
    body = view.inside((reach - 1) * 0.6)
    top = over(brown, cap, rough)
    return placed(ground(view, rng, table), body, top, part=cap, bare=brown)


def screw(view: View, rng: Generator, *, table: Rgb, metal: Rgb) -> Scene:
    """Draw a countersunk screw on its side: head, shank, and a slanting thread."""
    x, y, pitch = view.x, view.y, 0.14
    wave = np.cos((y + 0.25 * x) * (2 * np.pi / pitch)) * np.clip((y + 0.22) * 12, 0, 1)
    stops, widths = [-0.80, -0.72, -0.50, 0.66, 0.85], [0.27, 0.26, 0.12, 0.12, 0.02]
    half = profile(y, stops, widths) + 0.022 * wave
    distance = np.maximum(np.abs(x) - half, np.maximum(-0.80 - y, y - 0.85))
    shade, shine = view.lit(np.sqrt(np.clip(half * half - x * x, 0, 1)) + 0.010 * wave, 0.5)
    top = tint(metal, shade, shine)
    return placed(ground(view, rng, table), view.inside(distance), top)


ROTATABLE_OBJECTS: dict[str, Design] = {
    "metal_nut": partial(
        ring,
        table=(34, 32, 32),
        metal=(150, 142, 128),
        outer=0.68,
        inner=0.22,
        lobes=4,
        depth=0.16,
        swirl=0.8,
    ),
    "bottle": partial(mouth, table=(236, 236, 232), glass=(150, 96, 48)),
    "hazelnut": partial(hazelnut, table=(26, 28, 32), skin=(158, 98, 52), base=(206, 172, 128)),
    "screw": partial(screw, table=(214, 214, 210), metal=(142, 140, 138)),
}
