"""The three products of the demo and the benchmarks: fabric, washer and ampoule.

Each is one of the kinds of product (4.1): a texture, an object that may lie at any angle, and one
that lies upright.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

import cv2
import numpy as np
from numpy.random import Generator

from vqad.synthetic import flaws
from vqad.synthetic.flaws import Flaw
from vqad.synthetic.scenes import (
    Canvas,
    Design,
    Rgb,
    Scene,
    Sheet,
    View,
    bevelled,
    ground,
    over,
    placed,
    profile,
    tint,
)


@dataclass(frozen=True, kw_only=True)
class Product:
    """The drawing of one category of product, and its possible flaws."""

    kind: str  # as in `vqad.model.kinds.Kind`
    design: Design
    flaws: Mapping[str, Flaw]


def flaws_of(*chosen: Flaw) -> dict[str, Flaw]:
    """Flaws by name; the names become folders in ``test``."""
    return {flaw.__name__: flaw for flaw in chosen}


def closed_surface(view: View, image: Canvas, *, backing: Rgb) -> Scene:
    """A scene that the product fills; its background is visible only through a hole."""
    everywhere = np.ones_like(view.x)
    behind = tint(backing, everywhere)
    return Scene(image=image, background=behind, bare=behind, body=everywhere, part=everywhere)


def woven(
    view: View, rng: Generator, *, warp: Rgb, weft: Rgb, threads: int, over_under: int, fuzz: float
) -> Scene:
    """Draw threads across and along, each over ``over_under`` others, then under as many."""
    across = (view.x + 1) * (threads / 2) + rng.uniform(0, 2 * over_under)
    along = (view.y + 1) * (threads / 2) + rng.uniform(0, 2 * over_under)
    on_top = np.mod(np.floor(across) + np.floor(along), 2 * over_under) < over_under
    round_warp, round_weft = np.abs(np.sin(np.pi * across)), np.abs(np.sin(np.pi * along))
    upper = np.where(on_top, round_warp, round_weft)
    lower = np.where(on_top, round_weft, round_warp)
    shade = 0.40 + 0.70 * upper * (0.55 + 0.45 * lower)
    shade *= 1 + fuzz * view.noise(rng, 96, 96)
    image = over(tint(weft, shade), on_top.astype(np.float32), tint(warp, shade))
    return closed_surface(view, image, backing=(28, 26, 24))


def ring(
    view: View,
    rng: Generator,
    *,
    table: Rgb,
    metal: Rgb,
    outer: float,
    inner: float,
    lobes: int,
    depth: float,
    swirl: float,
) -> Scene:
    """Draw turned metal from above: a toothed washer, or a nut with arms."""
    radius, angle = np.hypot(view.x, view.y), np.arctan2(view.y, view.x)
    rim = outer * (1 + depth * np.cos(lobes * (angle + swirl * radius)))
    distance = np.maximum(radius - rim, inner - radius)
    groove = np.abs(radius - (inner + 0.13)) - 0.02
    shade, shine = view.lit(bevelled(distance, 0.07) - 0.5 * bevelled(groove, 0.02), 0.15)
    lathe = profile(radius, np.linspace(0, 1.5, 90).tolist(), rng.normal(0, 0.03, 90).tolist())
    sheen = 1 + 0.2 * np.cos(2 * view.camera_angle - 1.8) + lathe
    top = tint(metal, shade * sheen, shine)
    return placed(ground(view, rng, table), view.inside(distance), top)


@cache
def printed(lines: tuple[str, ...]) -> Sheet:
    """Print lines of text in the middle of a square; returns the share of ink of each pixel."""
    side, scale, thick = 256, 1.9, 6
    ink = np.zeros((side, side), np.uint8)
    for number, line in enumerate(lines):
        (width, height), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        middle = side / 2 + (number - (len(lines) - 1) / 2) * 1.6 * height
        at = ((side - width) // 2, round(middle + height / 2))
        cv2.putText(ink, line, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    return ink.astype(np.float32) / 255


def ampoule(view: View, rng: Generator, *, table: Rgb, glass: Rgb, ink: Rgb) -> Scene:
    """Draw a glass ampoule, filled to a level; the part is the print of its label."""
    x, y = view.x, view.y
    stops = [-0.88, -0.82, -0.70, -0.50, -0.44, -0.38, -0.22, -0.12, 0.80, 0.86]
    widths = [0.04, 0.09, 0.13, 0.13, 0.085, 0.10, 0.29, 0.34, 0.34, 0.27]
    half = profile(y, stops, widths)
    across = np.clip(x / half, -1, 1)
    wall = 0.45 + 0.60 * np.sqrt(1 - across * across)
    liquid = 1.15 - 0.33 * view.inside(rng.uniform(-0.27, -0.21) - y)
    shine = 120 * np.exp(-(((across + 0.55) / 0.10) ** 2))
    shine += 50 * np.exp(-(((across - 0.72) / 0.06) ** 2))
    paper = over(
        tint(glass, wall * liquid, shine),
        view.inside(np.abs(y - 0.30) - 0.34),
        tint((238, 236, 228), wall, 0.25 * shine),
    )
    bands = view.inside(np.abs(np.abs(y - 0.30) - 0.26) - 0.03)
    part = np.maximum(bands, view.sample(printed(("VQ", "10ml")), y=0.30, reach=0.34))
    body = view.inside(np.maximum(np.abs(x) - half, np.maximum(-0.88 - y, y - 0.86)))
    top = over(paper, part, tint(ink, wall))
    return placed(ground(view, rng, table), body, top, part=part, bare=paper)


PRODUCTS: dict[str, Product] = {
    "fabric": Product(
        kind="texture",
        design=partial(
            woven, warp=(72, 96, 140), weft=(205, 198, 180), threads=14, over_under=1, fuzz=0.06
        ),
        flaws=flaws_of(flaws.thread, flaws.hole, flaws.stain, flaws.dent),
    ),
    "washer": Product(
        kind="rotatable_object",
        design=partial(
            ring,
            table=(52, 74, 92),
            metal=(186, 186, 180),
            outer=0.70,
            inner=0.30,
            lobes=12,
            depth=0.06,
            swirl=0.0,
        ),
        flaws=flaws_of(flaws.scratch, flaws.chip, flaws.stain),
    ),
    "ampoule": Product(
        kind="object",
        design=partial(ampoule, table=(206, 214, 218), glass=(176, 108, 44), ink=(36, 62, 130)),
        flaws=flaws_of(flaws.misprint, flaws.crack, flaws.chip, flaws.stain),
    ),
}
