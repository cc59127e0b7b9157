"""A region of interest over tiles: tiles without it are left out, others are filled outside."""

import numpy as np
import pytest

from vqad.images.placement import Geometry, ImageForm
from vqad.images.roi import RegionOfInterest
from vqad.images.tile_regions import (
    LEAST_LEARNED,
    counted_places,
    drawn_inside,
    looked_at,
    tile_placement,
)
from vqad.images.tiles import Blend, Tiling

TILING = Tiling(tile_px=40, overlap_px=10)
HEIGHT_PX, WIDTH_PX, SIZE_PX = 130, 220, 20
GRID = TILING.grid(HEIGHT_PX, WIDTH_PX)


def region_of(mask: np.ndarray) -> RegionOfInterest:
    return RegionOfInterest(mask=mask, source_px=(WIDTH_PX, HEIGHT_PX))


def disc() -> np.ndarray:
    rows, cols = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    return (rows - 60) ** 2 + (cols - 90) ** 2 < 45**2


def test_tiles_without_a_pixel_of_the_region_are_left_out() -> None:
    found = looked_at(GRID, region_of(disc()), size_px=SIZE_PX)
    assert 0 < len(found) < len(GRID)
    for corner in GRID.corners:
        top, left = corner
        tile = disc()[top : top + 40, left : left + 40]
        whole_pixels = tile.reshape(SIZE_PX, 2, SIZE_PX, 2).all((1, 3))
        assert (corner in found.corners) == whole_pixels.any()
        its = tile_placement(region_of(disc()), GRID, corner, size_px=SIZE_PX)
        np.testing.assert_array_equal(np.ones_like(tile) if its.inside is None else tile, tile)
        if its.inside is not None:
            np.testing.assert_array_equal(its.inside, whole_pixels)
    assert looked_at(GRID, None, size_px=SIZE_PX) == GRID


def test_a_region_of_less_than_a_pixel_of_all_tiles_is_refused() -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    mask[51, 51] = True
    message = "the region of interest has no whole pixel of a tile of 40 x 40 pixels; draw it large"
    with pytest.raises(ValueError, match=message):
        looked_at(GRID, region_of(mask), size_px=SIZE_PX)


def test_a_reduced_mask_counts_no_pixel_that_is_outside() -> None:
    exact = region_of(disc())
    reduced = region_of(exact.counted((HEIGHT_PX // 3, WIDTH_PX // 3)))
    some = 0
    for corner in GRID.corners:
        wanted, found = (
            tile_placement(roi, GRID, corner, size_px=SIZE_PX).inside for roi in (exact, reduced)
        )
        if wanted is None:
            continue
        assert found is not None
        assert not (found & ~wanted).any()
        some += int(found.sum())
    assert some > 100


def test_tiles_to_learn_from_show_enough_of_the_region() -> None:
    rng = np.random.default_rng(0)
    found = drawn_inside(GRID, region_of(disc()), 30, rng)
    assert len(found) == 30
    for top, left in found:
        assert disc()[top : top + 40, left : left + 40].mean() >= LEAST_LEARNED
    small = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    small[3:9, 200:206] = True
    for top, left in drawn_inside(GRID, region_of(small), 4, rng):
        assert small[top : top + 40, left : left + 40].any()


def test_the_field_of_some_tiles_has_their_values_up_to_their_edges() -> None:
    grid = looked_at(GRID, region_of(disc()), size_px=SIZE_PX)
    blend = Blend(grid, places=SIZE_PX)
    for at in range(len(grid)):
        blend.add(at, np.full((SIZE_PX, SIZE_PX), 3, np.float32))
    assert blend.covered is not None
    np.testing.assert_allclose(blend.whole[blend.covered], 3, rtol=1e-6)
    assert not blend.whole[~blend.covered].any()
    places = counted_places(region_of(disc()), blend.whole.shape, blend.covered)
    assert places.mean() == pytest.approx(disc().mean(), rel=0.05)


def test_the_map_of_a_whole_image_counts_inside_of_the_region() -> None:
    form = ImageForm(size_px=SIZE_PX, roi_source_px=(WIDTH_PX, HEIGHT_PX), tiling=TILING)
    geometry = Geometry(form=form, roi=region_of(disc()))
    assert geometry.placement().inside is None
    found = geometry.counted_of_map((WIDTH_PX, HEIGHT_PX), (65, 110))
    assert found is not None
    np.testing.assert_array_equal(found, disc().reshape(65, 2, 110, 2).all((1, 3)))
    assert form.refusal((WIDTH_PX, HEIGHT_PX)) == ""
    assert "is of images of 220 x 130" in form.refusal((WIDTH_PX * 2, HEIGHT_PX * 2))
