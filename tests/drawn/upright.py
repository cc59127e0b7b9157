"""Objects of the drawn pictures that lie as they are put, but for a slight tilt."""

from functools import partial

import cv2
import numpy as np
from numpy.random import Generator

from vqad.synthetic.products import printed
from vqad.synthetic.scenes import (
    Design,
    Field,
    Rgb,
    Scene,
    View,
    bevelled,
    ground,
    over,
    placed,
    shadowed,
    tint,
)


def _circle(view: View, x: float, y: float, radius: float) -> Field:
    return np.hypot(view.x - x, view.y - y) - radius


def _box(view: View, x: float, y: float, width: float, height: float, corner: float) -> Field:
    """Distance from a box with rounded corners; width and height are halves."""
    across, down = np.abs(view.x - x) - (width - corner), np.abs(view.y - y) - (height - corner)
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - corner


def cable(view: View, rng: Generator, *, table: Rgb, sheath: Rgb, cores: tuple[Rgb, ...]) -> Scene:
    """Draw a cut cable, end on: cores of copper strands, the part, in a sheath."""
    outside = np.hypot(view.x, view.y) - 0.84
    shade, shine = view.lit(bevelled(outside, 0.10), 0.1)
    rubber = tint(sheath, shade * (1 + 0.02 * view.noise(rng, 40, 40)), shine)
    empty = over(rubber, view.inside(outside + 0.13), tint((58, 54, 52), np.ones_like(shade)))
    top, part = empty, np.zeros_like(shade)
    strands = np.cos(55 * view.x) * np.cos(27 * view.x + 48 * view.y)
    for number, colour in enumerate(cores):
        angle = 2 * np.pi * (number / len(cores) - 0.25)
        centre = (0.365 * float(np.cos(angle)), 0.365 * float(np.sin(angle)))
        jacket = _circle(view, *centre, 0.29)
        shade, shine = view.lit(bevelled(jacket, 0.06), 0.1)
        copper = tint((206, 138, 92), 0.85 + 0.25 * strands + 0.05 * view.noise(rng, 40, 40))
        core = over(tint(colour, shade, shine), view.inside(jacket + 0.12), copper)
        share = view.inside(jacket)
        top, part = over(top, share, core), np.maximum(part, share)
    return placed(ground(view, rng, table), view.inside(outside), top, part=part, bare=empty)


def capsule(view: View, rng: Generator, *, table: Rgb, left: Rgb, right: Rgb, ink: Rgb) -> Scene:
    """Draw a two-coloured capsule lying across; its print is the part."""
    distance = _box(view, 0.0, 0.0, 0.86, 0.33, 0.33)
    across = np.clip(view.y / 0.33, -1, 1)
    shade, shine = view.lit(0.8 * np.sqrt(np.clip(0.33**2 - (distance + 0.33) ** 2, 0, 1)), 0.3)
    shine += 110 * np.exp(-(((across + 0.5) / 0.09) ** 2)) * view.inside(np.abs(view.x) - 0.62)
    joint = 1 - 0.35 * view.inside(np.abs(view.x + 0.02) - 0.012)
    shade = shade * joint * (1 + 0.015 * view.noise(rng, 30, 12))
    halves = over(tint(right, shade, shine), view.inside(view.x + 0.02), tint(left, shade, shine))
    part = np.maximum(
        view.sample(printed(("500",)), x=0.40, y=0.02, reach=0.40),
        view.sample(printed(("VQ",)), x=-0.42, y=0.02, reach=0.40),
    )
    top = over(halves, part, tint(ink, 0.5 + 0.5 * shade))
    body = view.inside(distance)
    return placed(ground(view, rng, table), body, top, part=part, bare=halves)


def pill(view: View, rng: Generator, *, table: Rgb, colour: Rgb, speckle: Rgb) -> Scene:
    """Draw a flat oval pill with coloured speckles; the part is letters pressed into it."""
    reach = np.hypot(view.x / 0.82, view.y / 0.54)
    height = bevelled((reach - 1) * 0.54, 0.22)
    letters = view.sample(cv2.blur(printed(("FF",)), (9, 9)), reach=0.62)
    speckles = tint(speckle, np.ones_like(height))
    dots = 0.7 * np.clip((view.noise(rng, 30, 30) - 1.5) * 3, 0, 1)
    shade, shine = view.lit(height, 0.05)
    smooth = over(tint(colour, shade, shine), dots, speckles)
    shade, shine = view.lit(height - 0.045 * letters, 0.05)
    pressed = over(tint(colour, shade * (1 - 0.15 * letters), shine), dots, speckles)
    body = view.inside((reach - 1) * 0.54)
    return placed(ground(view, rng, table), body, pressed, part=letters, bare=smooth)


def brush(view: View, rng: Generator, *, table: Rgb, plastic: Rgb, tufts: tuple[Rgb, ...]) -> Scene:
    """Draw a toothbrush's head from above; the tufts, coloured by row, are the part."""
    handle = _box(view, 0.0, 0.95, 0.14, 0.5, 0.05)
    outside = np.minimum(_box(view, 0.0, -0.12, 0.38, 0.74, 0.34), handle)
    shade, shine = view.lit(bevelled(outside, 0.08), 0.3)
    head = tint(plastic, shade, shine)
    top, part = head, np.zeros_like(shade)
    bristle = 0.85 + 0.15 * view.noise(rng, 70, 70)
    row, column = np.round((view.y + 0.12) / 0.17), np.round(view.x / 0.17 - 0.5) + 0.5
    from_tuft = np.hypot(view.y + 0.12 - row * 0.17, view.x - column * 0.17) - 0.078
    held = (np.hypot(column * 0.17 / 0.34, row * 0.17 / 0.70) < 0.97) & (np.abs(column) < 2)
    share = view.inside(from_tuft) * held
    shade, shine = view.lit(bevelled(from_tuft, 0.07) * held, 0.0)
    for number, colour in enumerate(tufts):
        of_row = share * (np.mod(row, len(tufts)) == number)
        top = over(top, of_row, tint(colour, shade * bristle))
        part = np.maximum(part, of_row)
    body = view.inside(outside)
    return placed(ground(view, rng, table), body, top, part=part, bare=head)


def transistor(view: View, rng: Generator, *, table: Rgb, case: Rgb, metal: Rgb) -> Scene:
    """Draw a transistor in a perforated board; its three legs are the part."""
    pitch = 0.25
    hole = np.hypot(
        np.mod(view.x + pitch / 2, pitch) - pitch / 2, np.mod(view.y, pitch) - pitch / 2
    )
    board = over(
        ground(view, rng, table), view.inside(hole - 0.055), tint((40, 30, 24), 0 * hole + 1)
    )
    package = _box(view, 0.0, -0.32, 0.46, 0.42, 0.05)
    legs = np.ones_like(hole)
    for lane in (-pitch, 0.0, pitch):
        legs = np.minimum(legs, _box(view, lane, 0.42, 0.055, 0.46, 0.05))
    shade, shine = view.lit(bevelled(legs, 0.05), 0.3)
    wires = view.inside(legs) * (1 - view.inside(package))
    standing = over(shadowed(board, wires), wires, tint(metal, shade, shine))
    print_seen = 0.75 * view.sample(printed(("VQ", "547")), y=-0.32, reach=0.44)
    shade, shine = view.lit(bevelled(package, 0.05), 0.15)
    plastic = tint(case, shade * (1 + 0.05 * view.noise(rng, 60, 60)), shine)
    black = over(plastic, print_seen, tint((210, 210, 205), np.ones_like(shade)))
    boxed = view.inside(package)
    image = over(shadowed(standing, boxed), boxed, black)
    bare = over(shadowed(board, boxed), boxed, black)
    body = np.maximum(boxed, wires)
    return Scene(image=image, background=board, bare=bare, body=body, part=wires)


def zipper(view: View, rng: Generator, *, tape: Rgb, teeth: Rgb) -> Scene:
    """Draw a closed zipper on its tape; the interlocking teeth are the part."""
    pitch, phase = 0.17, rng.uniform(0, 0.17)
    rib = 1 + 0.12 * np.cos(view.y * 110) * np.cos(view.x * 90) + 0.06 * view.noise(rng, 80, 80)
    seam = 1 - 0.25 * view.inside(np.abs(np.abs(view.x) - 0.50) - 0.02)
    cloth = tint(tape, rib * seam * (1 - 0.3 * np.exp(-((view.x / 0.30) ** 2))))
    side = np.where(view.x > 0, 0.5, 0.0).astype(np.float32) * pitch
    down = np.abs(np.mod(view.y + phase + side, pitch) - pitch / 2) - 0.055
    distance = np.maximum(down, np.abs(np.abs(view.x) - 0.125) - 0.135)
    part = view.inside(distance)
    shade, shine = view.lit(bevelled(distance, 0.05), 0.35)
    image = over(shadowed(cloth, part, 0.5), part, tint(teeth, shade, shine))
    dark = tint((20, 20, 22), np.ones_like(rib))
    body = np.ones_like(rib)
    return Scene(image=image, background=dark, bare=cloth, body=body, part=part)


UPRIGHT_OBJECTS: dict[str, Design] = {
    "cable": partial(
        cable,
        table=(120, 122, 124),
        sheath=(200, 198, 192),
        cores=((84, 142, 84), (62, 92, 168), (150, 146, 140)),
    ),
    "capsule": partial(
        capsule, table=(232, 230, 226), left=(52, 46, 48), right=(206, 106, 42), ink=(236, 232, 224)
    ),
    "pill": partial(pill, table=(30, 30, 34), colour=(226, 220, 204), speckle=(190, 70, 56)),
    "toothbrush": partial(
        brush,
        table=(36, 38, 44),
        plastic=(150, 190, 206),
        tufts=((226, 226, 220), (70, 120, 190), (226, 226, 220), (214, 110, 70)),
    ),
    "transistor": partial(
        transistor, table=(166, 126, 84), case=(48, 48, 52), metal=(196, 194, 188)
    ),
    "zipper": partial(zipper, tape=(58, 60, 72), teeth=(178, 168, 140)),
}
