"""The pictures of a card."""

import cv2
import numpy as np
import pytest

from vqad.report import pictures
from vqad.report.pictures import Crop, crop_of

WIDTH, HEIGHT = 1000, 800


def region(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x_px": x, "y_px": y, "width_px": width, "height_px": height}


def peak_at(row: int, col: int, size: int = 64) -> np.ndarray:
    found = np.zeros((size, size), np.float32)
    found[row, col] = 5
    return found


def test_a_crop_shows_the_region_and_as_much_again() -> None:
    found = crop_of([region(400, 300, 100, 60)], None, width_px=WIDTH, height_px=HEIGHT)
    assert found == Crop(x_px=350, y_px=230, width_px=200, height_px=200)


def test_a_crop_stays_inside_the_image() -> None:
    found = crop_of([region(980, 0, 20, 10)], None, width_px=WIDTH, height_px=HEIGHT)
    assert found == Crop(x_px=904, y_px=0, width_px=96, height_px=96)


def test_a_crop_is_never_larger_than_the_image() -> None:
    found = crop_of([region(0, 0, 30, 5)], None, width_px=30, height_px=5)
    assert found == Crop(x_px=0, y_px=0, width_px=30, height_px=5)


def test_the_crop_of_a_large_region_is_around_its_peak_and_has_source_resolution() -> None:
    large = region(0, 0, 1000, 800)
    found = crop_of([large], peak_at(48, 56), width_px=WIDTH, height_px=HEIGHT)
    assert (found.width_px, found.height_px) == (384, 384)
    assert found.x_px <= 56.5 * 1000 / 64 <= found.x_px + 384
    assert found.y_px <= 48.5 * 800 / 64 <= found.y_px + 384


def test_the_crop_of_a_normal_image_is_where_its_map_is_largest() -> None:
    found = crop_of([], peak_at(32, 16), width_px=WIDTH, height_px=HEIGHT)
    assert found == Crop(x_px=210, y_px=358, width_px=96, height_px=96)


def test_without_regions_and_map_there_is_no_crop() -> None:
    assert crop_of([], None, width_px=WIDTH, height_px=HEIGHT) is None


def test_a_cut_out_has_the_pixels_of_the_source() -> None:
    source = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    cut = Crop(x_px=10, y_px=20, width_px=30, height_px=25).of(source)
    assert np.array_equal(cut, source[20:45, 10:40])


def test_the_whole_image_keeps_its_aspect_ratio_and_is_never_enlarged() -> None:
    assert pictures.whole(np.zeros((1000, 500, 3), np.uint8)).shape == (320, 160, 3)
    assert pictures.whole(np.zeros((30, 20, 3), np.uint8)).shape == (30, 20, 3)
    assert pictures.whole(np.zeros((4000, 2, 3), np.uint8)).shape == (320, 1, 3)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_picture_has_no_more_bytes_than_allowed(channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, channels), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    for picture, most in ((noise, 8000), (smooth, 2500)):
        assert len(pictures.encoded(picture, max_bytes=most)) <= most


def test_an_encoded_picture_is_the_picture() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], np.uint8(40)), axis=-1)
    data = pictures.encoded(np.ascontiguousarray(picture), max_bytes=10_000)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(int) - picture).mean() < 8


def test_the_overlay_is_clear_at_zero_and_most_opaque_from_the_threshold_on() -> None:
    levels = np.array([[0.0, 5.0, 10.0, 40.0]], np.float32)
    alpha = pictures.overlay(levels, 10.0)[0, :, 3]
    assert alpha.tolist() == [0, 60, 120, 120]
    assert pictures.overlay(levels, 0.0)[0, :, 3].tolist() == [0, 120, 120, 120]


def test_the_outline_runs_along_the_edges_of_the_pixels_above_the_threshold() -> None:
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[5:10, 3:12] = 2
    path = pictures.outline(anomaly_map > 1)
    points = [tuple(map(float, each.split())) for each in path.strip("MZ").split("L")]
    xs, ys = zip(*points, strict=True)
    assert np.abs([min(xs) - 3, max(xs) - 12, min(ys) - 5, max(ys) - 10]).max() <= 0.25
    assert pictures.outline(anomaly_map > 2) == ""


def test_as_many_regions_are_outlined_as_are_counted_the_largest_ones() -> None:
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[1, 1] = 9  # high, but too small to be a region
    anomaly_map[5:10, 3:12] = 2
    anomaly_map[14:18, 2:6] = 2
    drawn = [
        pictures.counted_regions(anomaly_map, 1.0, count).sum(axis=1).tolist() for count in range(3)
    ]
    both = [0] * 5 + [9] * 5 + [0] * 4 + [4] * 4 + [0] * 2
    assert drawn == [[0] * 20, [0] * 5 + [9] * 5 + [0] * 10, both]


def test_the_outline_of_a_ragged_map_is_short() -> None:
    noise = np.random.default_rng(0).random((256, 256)).astype(np.float32)
    path = pictures.outline(noise > 0.5)
    assert 0 < len(path) <= 4000
