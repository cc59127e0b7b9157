"""The kind of a product is found from its normal images."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests import drawn
from vqad.training import found_kind
from vqad.training.found_kind import FoundKind, find_kind

NAMES = [f"{number:02}.png" for number in range(50)]


@cache
def photographs(category: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([drawn.draw(category, size_px=48, rng=rng) for _ in NAMES])


def found(category: str) -> FoundKind:
    return find_kind(NAMES, photographs(category), seed=0)


@pytest.mark.parametrize("category", drawn.KINDS)
def test_the_kinds_of_drawn_products_are_found(category: str) -> None:
    assert found(category).kind == drawn.KINDS[category]


def test_few_images_are_taken_for_an_object_and_that_is_said() -> None:
    fabric = find_kind(NAMES[:19], photographs("fabric")[:19], seed=0)
    assert fabric.kind == "object"
    assert fabric.describe() == (
        "taken to be of the kind object: 19 images are too few to find it; --kind gives another"
    )
    assert found("fabric").describe().startswith("found to be of the kind texture: variation at ")


def test_the_order_of_the_listing_and_the_depth_of_the_files_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(found_kind, "MOST_IMAGES", 30)
    pixels = photographs("screw")
    expected = find_kind(NAMES, pixels, seed=3)
    assert expected.num_images == 30
    order = np.random.default_rng(0).permutation(len(NAMES))
    assert find_kind([NAMES[at] for at in order], pixels[order], seed=3) == expected
    deep = find_kind(NAMES, pixels * np.uint16(257), seed=3)
    assert (deep.variation, deep.symmetry) == pytest.approx(
        (expected.variation, expected.symmetry), rel=0.01
    )
    assert find_kind(NAMES, pixels, seed=4) != expected


def test_a_dimmer_lamp_changes_little() -> None:
    for category in ("tile", "bottle", "pill"):
        dim = find_kind(NAMES, (photographs(category) * 0.7).astype(np.uint8), seed=0)
        assert dim.kind == drawn.KINDS[category]


@pytest.mark.parametrize("level", [0, 90])
def test_pictures_without_edges_are_objects(level: int) -> None:
    blank = find_kind(NAMES, np.full((50, 48, 48, 3), level, np.uint8), seed=0)
    assert blank == FoundKind(num_images=50, variation=0.0, symmetry=0.0)
    assert blank.kind == replace(blank, num_images=1).kind == "object"
