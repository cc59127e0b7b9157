"""The smallest defect in pixels of the map, of the image, and in square millimetres."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jobs import train
from vqad.images.placement import ImageForm
from vqad.training.minimum_area import MapPixel, map_pixel, map_shape, minimum_area
from vqad.training.options import TrainOptions

CAMERA = (2448, 2048)


def pixel_of(*sources: tuple[int, int], size_px: int = 256) -> MapPixel:
    found = map_pixel(sources, ImageForm(size_px=size_px).shape_of)
    assert found is not None
    return found


def area_of(pixel: MapPixel | None = None, **options: Any) -> int:
    asked = TrainOptions(category="a", **options)
    return minimum_area(asked, pixel or pixel_of(CAMERA), default_px=64).area_px


def test_a_pixel_of_the_map_covers_a_part_of_the_image() -> None:
    found = pixel_of(CAMERA)
    assert (found.width_px, found.height_px) == (2448 / 256, 8)
    assert found.area_px == 76.5
    assert map_pixel([], ImageForm(size_px=256).shape_of) is None


@pytest.mark.parametrize(
    ("options", "width_px", "height_px"),
    [
        ({"resize": "squash"}, 2448 / 256, 8),
        ({"resize": "pad"}, 2448 / 256, 2048 / 214),
        # Tiles of 512 pixels become 256, so an image has 1224 x 1024 pixels of the map.
        ({"tile_px": 512, "tile_overlap_px": 64}, 2, 2),
    ],
)
def test_padding_and_tiles_make_the_pixels_of_the_map_square(
    options: dict[str, Any], width_px: float, height_px: float
) -> None:
    found = map_pixel([CAMERA], map_shape(TrainOptions(category="a", **options), 256))
    assert found is not None
    assert (found.width_px, found.height_px) == (width_px, height_px)


def test_an_image_smaller_than_a_tile_has_no_map() -> None:
    shape_of = map_shape(TrainOptions(category="a", tile_px=512), 256)
    with pytest.raises(ValueError, match="are less than one tile of 512 x 512; train with a small"):
        map_pixel([(500, 600)], shape_of)


def test_of_images_of_several_sizes_the_median_area_decides() -> None:
    assert pixel_of((10, 10), (3000, 2000), (640, 480), (20, 20), (650, 480)).source == (640, 480)


@pytest.mark.parametrize(
    ("options", "area_px"),
    [
        ({}, 64),
        ({"minimum_area_px": 9}, 9),
        ({"minimum_area_source_px": 4896}, 64),
        ({"minimum_area_source_px": 4897}, 65),  # rounded up: no smaller region is a defect
        ({"minimum_area_source_px": 77}, 2),
        # 0.3 mm are 7.65 pixels as float64 has them, whose square is a little more than 58.5225.
        ({"minimum_area_mm2": 76.5 * 3 / 25.5**2, "px_per_mm": 25.5}, 3),
        ({"px_per_mm": 25.5}, 64),
    ],
)
def test_areas_are_converted_with_the_size_of_the_images(
    options: dict[str, Any], area_px: int
) -> None:
    assert area_of(**options) == area_px


def test_an_image_smaller_than_the_input_has_pixels_of_less_than_one() -> None:
    assert area_of(pixel_of((128, 128)), minimum_area_source_px=16) == 64


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"minimum_area_source_px": 76},
            "minimum_area_source_px 76 is less than one pixel of the map, which covers 76.5 pixels "
            "of an image of 2448 x 2048; give at least that",
        ),
        (
            {"minimum_area_mm2": 0.1, "px_per_mm": 20.0},
            "minimum_area_mm2 0.1 is less than one pixel of the map, which covers 0.191 mm2 of an "
            "image of 2448 x 2048; give at least that",
        ),
    ],
)
def test_less_than_a_pixel_of_the_map_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        area_of(**options)


def test_an_area_of_the_image_needs_its_size() -> None:
    asked = TrainOptions(category="a", minimum_area_source_px=100)
    with pytest.raises(ValueError, match="minimum_area_source_px needs the size of the images"):
        minimum_area(asked, None, default_px=64)


def test_the_smallest_defect_is_told_in_every_unit_that_is_known() -> None:
    asked, pixel = TrainOptions(category="a"), pixel_of(CAMERA)
    start = "the smallest defect that can be found has 64 pixels of the map"
    assert minimum_area(asked, None, default_px=64).describe() == start
    start += ", 4,896 of an image of 2448 x 2048: about 76 x 64"
    found = minimum_area(asked, pixel, default_px=64)
    assert found.describe() == start
    units = {"minimum_area_px": 64, "minimum_area_source_px": 4896, "minimum_area_mm2": None}
    assert found.record() == units
    scaled = minimum_area(TrainOptions(category="a", px_per_mm=20.0), pixel, default_px=64)
    assert scaled.describe() == f"{start}, or 12.2 mm2, 3.83 x 3.2 mm"
    assert scaled.record() == units | {"minimum_area_mm2": 12.24}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"minimum_area_px": 64, "minimum_area_mm2": 1.0, "px_per_mm": 20.0},
            "minimum_area_px and minimum_area_mm2 are given, and each sets the smallest area of a "
            "defect; leave out all but one",
        ),
        ({"minimum_area_mm2": 1.0}, "minimum_area_mm2 needs px_per_mm: how many pixels a"),
        ({"minimum_area_source_px": 0}, "minimum_area_source_px must be at least 1, got 0"),
        ({"minimum_area_mm2": 0.0, "px_per_mm": 2.0}, "minimum_area_mm2 must be above 0, got 0.0"),
        ({"px_per_mm": -2.0}, "px_per_mm must be above 0, got -2.0"),
        ({"px_per_mm": float("nan")}, "px_per_mm must be above 0, got nan"),
    ],
)
def test_options_that_say_nothing_or_two_things_are_refused(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        TrainOptions(category="a", **options)


def test_options_that_came_later_change_no_name_of_a_run_unless_they_are_given() -> None:
    plain = TrainOptions(category="a").shaping()
    assert "px_per_mm" not in plain
    assert TrainOptions(category="a", px_per_mm=2.0).shaping() == plain | {"px_per_mm": 2.0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories with one image each."""
    for category in ("bolt", "nut"):
        folder = tmp_path / "data" / category / "train" / "good"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "1.png"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "data"


def options_of(data: Path, *arguments: str, table: str = "") -> dict[str, TrainOptions]:
    config = data / "vqad.toml"
    config.write_text(table)
    places = ["--data", str(data), "--models", str(data / "models"), "--config", str(config)]
    jobs: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train, "work", lambda options: (jobs.append(train.job_of(options)), ({}, 0))[1]
        )
        assert train.main([*places, *arguments]) == 0
    return {each.category: each for each in jobs[0].options}


def test_the_area_of_a_category_comes_before_that_for_all_in_any_unit(data: Path) -> None:
    table = "[categories.nut]\nminimum_area_mm2 = 0.5\npx_per_mm = 20\n"
    found = options_of(data, "--minimum-area-px", "100", table=table)
    assert found["bolt"].minimum_area_px == 100
    assert (found["nut"].minimum_area_px, found["nut"].minimum_area_mm2) == (None, 0.5)
    assert found["nut"].px_per_mm == 20


def test_two_areas_at_once_are_exit_code_2(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = ["--data", str(data), "--models", str(data / "models")]
    areas = ["--minimum-area-px", "64", "--minimum-area-source-px", "5000"]
    assert train.main([*places, *areas]) == 2
    assert "minimum_area_px and minimum_area_source_px are given" in capfd.readouterr().err
    assert not (data / "models").exists()
