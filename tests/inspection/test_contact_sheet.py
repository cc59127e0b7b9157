"""Contact sheets: a header, and for each image four tiles and a caption."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy import ndarray

from vqad.inspection.contact_sheet import PREDICTED, SheetRow, encode, heat, sheet

TILE, GAP, LINE = 128, 8, 30
THRESHOLD = 20.0


def row() -> SheetRow:
    """A grey picture whose map exceeds the threshold in rows 16 to 31, columns 8 to 47."""
    anomaly_map = np.full((64, 64), THRESHOLD / 2, np.float32)
    anomaly_map[16:32, 8:48] = THRESHOLD * 1.5
    return SheetRow(
        image=np.full((100, 200, 3), 90, np.uint8),
        restored=np.full((64, 64, 3), 150, np.uint8),
        anomaly_map=anomaly_map,
        verdict="defect",
        score=30.0,
        threshold=THRESHOLD,
        caption="file:///data/bottle/000.png",
    )


def tile(picture: ndarray, column: int, number: int = 0) -> ndarray:
    top = LINE + number * (TILE + LINE + GAP)
    left = GAP + column * (TILE + GAP)
    return picture[top : top + TILE, left : left + TILE]


def caption(picture: ndarray) -> ndarray:
    return picture[LINE + TILE : LINE + TILE + LINE]


def is_colour(picture: ndarray, colour: tuple[int, int, int]) -> ndarray:
    return (picture == colour).all(axis=2)


def test_a_sheet_has_a_header_and_a_band_of_four_tiles_for_each_row() -> None:
    for num_rows in (1, 3):
        picture = sheet([row()] * num_rows, tile_px=TILE)
        height = LINE + num_rows * (TILE + LINE + GAP)
        assert picture.shape == (height, 4 * TILE + 5 * GAP, 3)
        assert picture.dtype == np.uint8


def test_tiles_are_image_restored_map_and_image_again() -> None:
    picture = sheet([row(), replace(row(), image=row().restored)], tile_px=TILE)
    assert (tile(picture, 0) == 90).all()
    assert (tile(picture, 1) == 150).all()
    assert (tile(picture, 0, number=1) == 150).all()
    inner = tile(picture, 2)[40:56, 24:88]
    assert (inner == heat(np.full((1, 1), 30, np.float32), THRESHOLD)).all()
    assert (tile(picture, 3)[:20] == 90).all()


def test_the_outline_runs_where_the_map_exceeds_the_threshold() -> None:
    outline = is_colour(tile(sheet([row()], tile_px=TILE), 3), PREDICTED)
    rows, cols = np.nonzero(outline)
    # Two tile pixels to one of the map, and lines are two pixels wide.
    assert np.abs([rows.min() - 32, rows.max() - 63, cols.min() - 16, cols.max() - 95]).max() <= 1
    assert not outline[36:60, 20:92].any()
    for edge in (outline[31:34], outline[62:65]):
        assert edge[:, 16:96].any(axis=0).all()
    for edge in (outline[:, 15:18], outline[:, 94:97]):
        assert edge[32:64].any(axis=1).all()


def test_a_map_at_the_threshold_has_no_outline() -> None:
    at = replace(row(), anomaly_map=np.full((64, 64), THRESHOLD, np.float32), verdict="normal")
    assert (tile(sheet([at], tile_px=TILE), 3) == 90).all()


def test_heat_is_black_at_zero_and_the_same_colour_at_any_threshold() -> None:
    levels = np.array([[0, 0.5, 1, 2, 5]], np.float32)
    low, high = heat(levels * 7, 7.0), heat(levels * 70, 70.0)
    assert np.array_equal(low, high)
    brightness = low[0].sum(axis=1, dtype=int)
    assert brightness[0] < 10
    assert (np.diff(brightness)[:3] > 0).all()
    assert brightness[4] == brightness[3]


def test_a_sheet_is_drawn_alike_every_time() -> None:
    assert encode(sheet([row()], tile_px=TILE)) == encode(sheet([row()], tile_px=TILE))


def test_a_sheet_survives_encoding_with_red_still_red() -> None:
    picture = sheet([row()], tile_px=TILE)
    data = encode(picture)
    assert data.startswith(b"\x89PNG")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), picture)


def test_a_caption_shows_verdict_score_threshold_and_name() -> None:
    before = caption(sheet([row()], tile_px=TILE))
    for changed in (
        replace(row(), verdict="normal"),
        replace(row(), score=31.0),
        replace(row(), caption="file:///data/bottle/001.png"),
    ):
        assert not np.array_equal(caption(sheet([changed], tile_px=TILE)), before)


def test_a_long_name_loses_its_middle_and_stays_inside_the_sheet() -> None:
    one, other = (f"s3://start/{'x' * 500}{middle}{'x' * 500}/end.png" for middle in "ab")
    drawn = [caption(sheet([replace(row(), caption=c)], tile_px=TILE)) for c in (one, other)]
    assert np.array_equal(*drawn)
    assert (drawn[0][:, -GAP + 2 :] == drawn[0][0, 0]).all()
    tail = caption(sheet([replace(row(), caption=one[:-5] + "0.png")], tile_px=TILE))
    assert not np.array_equal(tail, drawn[0])


@pytest.mark.parametrize(
    ("name", "drawn_as"),
    [("prüfstück.png", "prufstuck.png"), ("中\n.png", r"\u4e2d\n.png"), ("ß", r"\xdf")],
)
def test_a_name_that_is_not_ascii_is_spelt_so_that_it_can_be_read(name: str, drawn_as: str) -> None:
    one, other = (sheet([replace(row(), caption=c)], tile_px=TILE) for c in (name, drawn_as))
    assert np.array_equal(one, other)


def test_drawing_leaves_the_pictures_alone() -> None:
    # A picture of the tile's own size might be drawn on in place.
    image = np.full((TILE, TILE, 3), 90, np.uint8)
    sheet([replace(row(), image=image)], tile_px=TILE)
    assert (image == 90).all()


def test_a_sheet_without_rows_and_tiles_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="a sheet needs at least one row, got none"):
        sheet([])
    with pytest.raises(ValueError, match="tile_px must be at least 128, got 64"):
        sheet([row()], tile_px=64)


@pytest.mark.parametrize("threshold", [-3.0, float("nan"), float("inf")])
def test_a_threshold_that_no_detector_has_is_refused(threshold: float) -> None:
    expected = f"threshold must be finite and not negative, got {threshold}"
    with pytest.raises(ValueError, match=expected):
        replace(row(), threshold=threshold)


def test_with_a_threshold_of_zero_all_above_zero_is_brightest_and_outlined() -> None:
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[16:32, 8:48] = 1e-6
    colours = heat(anomaly_map, 0.0)
    assert (colours[20, 20] == heat(np.full((1, 1), 9.0, np.float32), 1.0)[0, 0]).all()
    assert (colours[0, 0] == heat(np.zeros((1, 1), np.float32), 1.0)[0, 0]).all()
    drawn = sheet([replace(row(), anomaly_map=anomaly_map, threshold=0.0)])
    assert (drawn[LINE:] == PREDICTED).all(axis=-1).any()
