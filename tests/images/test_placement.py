"""Where source images lie in the model's input, and which pixels count."""

import numpy as np
import pytest

from vqad.images.placement import Geometry, ImageForm
from vqad.images.roi import RegionOfInterest

PAD = ImageForm(size_px=32, resize="pad")


def region_of(mask: np.ndarray) -> RegionOfInterest:
    return RegionOfInterest(mask=mask, source_px=(mask.shape[1], mask.shape[0]))


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ((64, 64), (32, 32)),
        ((500, 1260), (32, 14)),  # 12.7 pixels, and the padding is as wide on both sides
        ((80, 40), (16, 32)),
        ((4000, 1), (2, 32)),
    ],
)
def test_an_image_that_is_padded_keeps_its_aspect_ratio(
    source: tuple[int, int], shape: tuple[int, int]
) -> None:
    assert PAD.shape_of(source) == shape
    assert ImageForm(size_px=32).shape_of(source) == (32, 32)


def test_padding_has_the_colours_of_the_images_edges() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    square = PAD.with_padding(pixels)
    placement = Geometry(form=PAD).placement((32, 16))
    assert np.array_equal(placement.cropped(square), pixels)
    assert np.array_equal(square[:8], pixels[:1].repeat(8, 0))
    assert np.array_equal(square[24:], pixels[-1:].repeat(8, 0))
    assert np.array_equal(placement.filled(square), square)


def test_a_square_image_has_no_padding_and_counts_everywhere() -> None:
    placement = Geometry(form=PAD).placement((50, 50))
    square = np.ones((32, 32), np.float32)
    assert placement.counted is None
    assert placement.counted_places(8) is None
    assert placement.map_of(square) is square


def test_the_places_of_a_grid_count_where_half_of_them_is_in_the_image() -> None:
    counted = Geometry(form=PAD).placement((32, 16)).counted_places(8)
    assert counted is not None
    assert counted.any(1).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    thin = Geometry(form=PAD).placement((4000, 1)).counted_places(4)
    assert thin is not None
    assert thin.any()


def test_a_pixel_counts_if_all_its_source_pixels_are_in_the_region() -> None:
    mask = np.ones((64, 64), bool)
    mask[:, :31] = False  # the 16th pixel of 32 has a column outside and one inside
    inside = region_of(mask).counted((32, 32))
    assert not inside[:, :16].any()
    assert inside[:, 16:].all()
    wider = region_of(mask).counted((128, 128))
    assert not wider[:, :62].any()
    assert wider[:, 64:].all()


def test_pixels_outside_take_the_colour_of_the_nearest_pixel_inside() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    geometry = Geometry(form=ImageForm(size_px=32), roi=region_of(mask))
    placement = geometry.placement((32, 32))
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    other[mask] = one[mask]
    filled = placement.filled(one)
    assert np.array_equal(filled, placement.filled(other))
    assert np.array_equal(filled[mask], one[mask])
    assert np.array_equal(filled[:8, 8:24], one[8:9, 8:24].repeat(8, 0))
    assert np.array_equal(placement.filled(filled), filled)


def test_a_map_is_zero_outside_the_region_and_covers_the_source_image() -> None:
    mask = np.zeros((40, 80), bool)
    mask[:, 40:] = True
    placement = Geometry(form=PAD, roi=region_of(mask)).placement((80, 40))
    found = placement.map_of(np.ones((32, 32), np.float32))
    assert found.shape == (16, 32)
    assert not found[:, :16].any()
    assert (found[:, 16:] == 1).all()


def test_a_region_of_no_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="the region of interest has no pixel"):
        region_of(np.zeros((8, 8), bool))
    mask = np.zeros((64, 64), bool)
    mask[3, 3] = True
    with pytest.raises(ValueError, match="no whole pixel of a map of 16 x 16; draw it larger"):
        region_of(mask).counted((16, 16))


def test_as_many_source_sizes_are_needed_as_there_are_images() -> None:
    with pytest.raises(ValueError, match="2 images need as many source sizes, got 1"):
        Geometry(form=PAD).placements(2, [(3, 4)])


def test_a_region_fits_images_of_its_aspect_ratio() -> None:
    form = ImageForm(size_px=32, roi_source_px=(80, 40))
    assert form.refusal((160, 81)) == form.refusal((53, 27)) == form.refusal((80, 40)) == ""
    assert form.refusal((160, 90)) == (
        "160 x 90 pixels, but the region of interest is of images of 80 x 40"
    )
    assert ImageForm(size_px=32).refusal((160, 90)) == ""
