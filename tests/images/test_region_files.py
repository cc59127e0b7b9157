"""Regions of interest in files: what they make of an image, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vqad.images.region_files import RegionError, decoded, encoded, read_region
from vqad.images.roi import RegionOfInterest

TRIANGLE = {"width_px": 40, "height_px": 20, "polygons": [[[0, 0], [39, 0], [39, 19]]]}


def picture(path: Path, mask: np.ndarray) -> str:
    assert cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
    return str(path)


def polygons(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def left(tmp_path: Path) -> str:
    mask = np.zeros((20, 40), bool)
    mask[:, :20] = True
    return picture(tmp_path / "left.png", mask)


def region_of(roi: str | None, ignore: str | None = None) -> RegionOfInterest:
    found = read_region(roi, ignore)
    assert found is not None
    return found


def test_without_a_file_there_is_no_region() -> None:
    assert read_region(None, None) is None


def test_white_is_inside_and_what_is_ignored_is_not(left: str, tmp_path: Path) -> None:
    found = region_of(left)
    assert found.source_px == (40, 20)
    assert found.mask[:, :20].all()
    assert not found.mask[:, 20:].any()
    assert np.array_equal(region_of(None, left).mask, ~found.mask)
    triangle = polygons(tmp_path / "triangle.json", TRIANGLE)
    both = region_of(left, triangle)
    assert np.array_equal(both.mask, found.mask & ~region_of(triangle).mask)


def test_polygons_are_drawn_in_pixels_of_the_image(tmp_path: Path) -> None:
    found = region_of(polygons(tmp_path / "triangle.json", TRIANGLE))
    assert (found.mask.shape, found.source_px) == ((20, 40), (40, 20))
    assert found.mask[0].all()
    assert found.mask[19, 39]
    assert not found.mask[19, :36].any()
    assert found.mask.mean() == pytest.approx(0.5, abs=0.05)


def test_a_large_mask_is_kept_smaller_and_loses_only_its_edge(tmp_path: Path) -> None:
    mask = np.zeros((90, 9000), bool)
    mask[:, 3001:] = True
    found = region_of(picture(tmp_path / "large.png", mask))
    assert (found.mask.shape, found.source_px) == ((41, 4096), (9000, 90))
    assert not found.mask[:, : 3001 * 4096 // 9000].any()
    assert found.mask[:, 3001 * 4096 // 9000 + 1 :].all()


def test_what_a_detector_keeps_is_the_same_region(left: str) -> None:
    found = region_of(left)
    again = decoded(encoded(found), found.source_px, "roi.png")
    assert np.array_equal(again.mask, found.mask)
    with pytest.raises(RegionError, match=r"roi.png: .*; restore it, or train again"):
        decoded(b"no picture", (40, 20), "roi.png")


def test_a_missing_file_is_named_with_those_that_are_there(left: str, tmp_path: Path) -> None:
    with pytest.raises(RegionError, match=r"/lift.png: no such file or folder; .* has left.png$"):
        read_region(str(tmp_path / "lift.png"), None)
    with pytest.raises(RegionError, match=r"there is no folder .*/nowhere either$"):
        read_region(str(tmp_path / "nowhere" / "left.png"), None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"polygons": []}, "is not of the form "),
        ([], "is not of the form "),
        ({**TRIANGLE, "width_px": 0}, "is of images of 0 x 20 pixels; from 1 to"),
        ({**TRIANGLE, "polygons": [[[0, 0], [1, 1]]]}, "polygon 1 needs at least 3 points"),
        ({**TRIANGLE, "width_px": 30}, "points outside of the image of 30 x 20 pixels"),
        ({**TRIANGLE, "polygons": []}, "leave no pixel that counts; white is inside"),
    ],
)
def test_polygons_that_make_no_region_are_refused(
    tmp_path: Path, content: object, said: str
) -> None:
    with pytest.raises(RegionError, match=said):
        read_region(polygons(tmp_path / "some.json", content), None)


def test_a_text_is_no_region(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(RegionError, match=r"text.png is neither a picture nor a .json file"):
        read_region(str(tmp_path / "text.png"), None)


def test_regions_of_two_sizes_are_refused(left: str, tmp_path: Path) -> None:
    other = picture(tmp_path / "other.png", np.ones((20, 30), bool))
    with pytest.raises(RegionError, match=r"of 40 x 20 pixels, ignore .* of 30 x 20; both must be"):
        read_region(left, other)
