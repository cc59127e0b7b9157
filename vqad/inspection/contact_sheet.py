"""Contact sheets: pictures by which a person can check verdicts.

One row per image: the image, the image as the detector restores it, the anomaly map in colours,
and the image with the predicted region outlined. All tiles are squares, as the model's input is.
The colours are scaled by each row's own threshold: black is 0, the middle colour the threshold, and
the brightest is twice the threshold or more. So rows and sheets of different categories compare:
all that is brighter than the tick in the legend is outlined. A threshold of 0 gives no scale: then
all that is above 0 is outlined and has the brightest colour.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection.score import predicted_mask

RGBPicture = UInt8[ndarray, "height width 3"]
_Colour = tuple[int, int, int]

# RGB. A dark rim makes the outline visible on a red picture, too.
PREDICTED: _Colour = (255, 48, 48)
_RIM: _Colour = (16, 16, 16)
_PAPER: _Colour = (28, 30, 34)
_INK: _Colour = (236, 236, 236)
_FAINT: _Colour = (168, 172, 178)
_VERDICTS: dict[str, _Colour] = {"defect": (255, 110, 100), "normal": (120, 214, 130)}

_TITLES = ("image", "restored", "map: 0 to 2 x threshold")
_GAP_PX = 8
_LINE_PX = 30  # height of the header and of each caption
_SMALLEST_TILE_PX = 128  # the titles need it


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One image of a sheet. Its pictures may have any size and are drawn as squares."""

    image: UInt8[ndarray, "image_height image_width 3"]  # RGB
    restored: UInt8[ndarray, "restored_height restored_width 3"]  # RGB
    anomaly_map: AnomalyMap
    verdict: Literal["normal", "defect"]
    score: float  # grey levels
    threshold: float  # grey levels
    caption: str  # usually the image's name

    def __post_init__(self) -> None:
        """Refuse a threshold that no detector has."""
        if not 0 <= self.threshold < np.inf:
            raise ValueError(f"threshold must be finite and not negative, got {self.threshold}")


def sheet(rows: Sequence[SheetRow], *, tile_px: int = 256) -> RGBPicture:
    """Draw the rows, in their order, under a header with titles and the scale of the colours."""
    if not rows:
        raise ValueError("a sheet needs at least one row, got none")
    if tile_px < _SMALLEST_TILE_PX:
        raise ValueError(f"tile_px must be at least {_SMALLEST_TILE_PX}, got {tile_px}")
    return np.vstack([_header(tile_px), *(_row(row, tile_px) for row in rows)])


def encode(picture: RGBPicture) -> bytes:
    """Encode a picture as PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def heat(anomaly_map: AnomalyMap, threshold: float) -> RGBPicture:
    """Colour a map: black at 0, the middle colour at the threshold, the brightest at twice it."""
    levels = anomaly_map / (2 * threshold) * 255 if threshold else (anomaly_map > 0) * 255.0
    coloured = cv2.applyColorMap(np.clip(levels, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)


def _header(tile_px: int) -> RGBPicture:
    strip = _blank(_LINE_PX, tile_px)
    bar_px = tile_px // 5
    for column, title in enumerate(_TITLES):
        _write(strip, _shorten(title, tile_px - bar_px - _GAP_PX), _left(column, tile_px), _INK)
    _heat_bar(strip, _left(3, tile_px) - _GAP_PX - bar_px, bar_px)
    _write(strip, "predicted", _left(3, tile_px), PREDICTED)
    return strip


def _heat_bar(strip: RGBPicture, left: int, bar_px: int) -> None:
    """Draw the scale of the colours, with a tick at the threshold."""
    scale = np.linspace(0, 2, bar_px, dtype=np.float32)[None].repeat(11, axis=0)
    strip[10:21, left : left + bar_px] = heat(scale, 1.0)
    cv2.rectangle(strip, (left - 1, 9), (left + bar_px, 21), _FAINT, 1)
    cv2.line(strip, (left + bar_px // 2, 6), (left + bar_px // 2, 24), _INK, 1)


def _row(row: SheetRow, tile_px: int) -> RGBPicture:
    image = _tile(row.image, tile_px)
    tiles = (
        image,
        _tile(row.restored, tile_px),
        _tile(heat(row.anomaly_map, row.threshold), tile_px),
        _outlined(image, row),
    )
    strip = _blank(tile_px + _LINE_PX + _GAP_PX, tile_px)
    for column, tile in enumerate(tiles):
        left = _left(column, tile_px)
        strip[:tile_px, left : left + tile_px] = tile
    _caption(strip[tile_px : tile_px + _LINE_PX], row)
    return strip


def _caption(strip: RGBPicture, row: SheetRow) -> None:
    """Write verdict and score from the left, then as much of the name as there is room for."""
    left = _GAP_PX
    sign = ">" if row.verdict == "defect" else "<="
    figures = f"score {row.score:.1f} {sign} threshold {row.threshold:.1f}"
    for text, colour in ((row.verdict, _VERDICTS[row.verdict]), (figures, _INK)):
        left = _write(strip, text, left, colour) + 2 * _GAP_PX
    _write(strip, _shorten(_legible(row.caption), strip.shape[1] - _GAP_PX - left), left, _FAINT)


def _outlined(tile: RGBPicture, row: SheetRow) -> RGBPicture:
    """The image with an outline around {map > threshold}."""
    drawn = tile.copy()
    mask = predicted_mask(row.anomaly_map, row.threshold)
    # Nearest: other interpolations would move the outline away from the decided pixels.
    enlarged = cv2.resize(
        np.ascontiguousarray(mask).view(np.uint8),
        tile.shape[:2],
        interpolation=cv2.INTER_NEAREST,
    )
    contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, _RIM, 4)
    cv2.drawContours(drawn, contours, -1, PREDICTED, 2)
    return drawn


def _tile(picture: RGBPicture, tile_px: int) -> UInt8[ndarray, "tile tile 3"]:
    shrinks = max(picture.shape[:2]) > tile_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(picture, (tile_px, tile_px), interpolation=interpolation)


def _blank(height_px: int, tile_px: int) -> RGBPicture:
    return np.full((height_px, _left(4, tile_px), 3), _PAPER, np.uint8)


def _left(column: int, tile_px: int) -> int:
    return _GAP_PX + column * (tile_px + _GAP_PX)


def _write(strip: RGBPicture, text: str, left: int, colour: _Colour) -> int:
    """Write a line of text and return where it ends."""
    cv2.putText(strip, text, (left, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return left + _text_width(text)


def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    return width


def _legible(text: str) -> str:
    r"""Spell a text in ASCII, as OpenCV's font needs: no accents, other characters as \u...."""
    base = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in base)


def _shorten(text: str, room_px: int) -> str:
    """Cut a text in the middle, where names differ least, until it fits."""
    if _text_width(text) <= room_px:
        return text
    # A character is at least a pixel wide, so the loop is short for very long names, too.
    for kept in range(min(len(text), room_px), 0, -1):
        short = text[: kept // 2] + "..." + text[len(text) - (kept - kept // 2) :]
        if _text_width(short) <= room_px:
            return short
    return ""
