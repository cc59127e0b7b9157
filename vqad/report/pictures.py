"""The pictures of a card: a crop in source pixels, the whole image, the map in colours.

Every picture is a WebP file of a bounded size. Outlines are no part of the pictures: the page draws
them over crop and whole image alike, so that they can be switched off.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from vqad.array_types import AnomalyMap
from vqad.detection.score import predicted_mask
from vqad.inspection.contact_sheet import RGBPicture, heat

# Bounds of the files, so that 2,000 cards need less than 50 MB.
WHOLE_BYTES: Final = 8_000
CROP_BYTES: Final = 10_000
MAP_BYTES: Final = 2_500
RESTORED_BYTES: Final = 8_000

_WHOLE_PX: Final = 320  # longest side
_MAP_PX: Final = 128
_LARGEST_CROP_PX: Final = 384
_SMALLEST_CROP_PX: Final = 96
_QUALITIES: Final = (82, 70, 55, 40, 25, 10)

# Opacity of the overlay: none where the map is 0, and this where it is at the threshold or above.
_LARGEST_OPACITY: Final = 120  # of 255
_LONGEST_OUTLINE: Final = 4000  # characters
_ENLARGED: Final = 4  # the outline runs along the edges of the map's pixels, not their centres


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A rectangle in pixels of the source image."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    def of(self, source: RGBPicture) -> UInt8[ndarray, "crop_height crop_width 3"]:
        """Cut the rectangle out, pixel by pixel."""
        rows = slice(self.y_px, self.y_px + self.height_px)
        return np.ascontiguousarray(source[rows, self.x_px : self.x_px + self.width_px])


def crop_of(
    regions: list[dict[str, Any]],
    anomaly_map: AnomalyMap | None,
    *,
    width_px: int,
    height_px: int,
) -> Crop | None:
    """A square around the region with the highest peak, else around the map's largest value.

    It has the size of the region and as much again, within bounds: what is larger than the crop
    can't be shown at source resolution. None without regions and map.
    """
    if regions:
        box = regions[0]
        center = box["x_px"] + box["width_px"] / 2, box["y_px"] + box["height_px"] / 2
        extent = max(box["width_px"], box["height_px"])
        if extent > _LARGEST_CROP_PX and anomaly_map is not None:
            center = _largest_in(anomaly_map, box, width_px, height_px)
    elif anomaly_map is not None:
        whole = {"x_px": 0, "y_px": 0, "width_px": width_px, "height_px": height_px}
        center, extent = _largest_in(anomaly_map, whole, width_px, height_px), 0
    else:
        return None
    smallest = min(_SMALLEST_CROP_PX, max(1, min(width_px, height_px) // 2))
    return _square(center, min(max(2 * extent, smallest), _LARGEST_CROP_PX), width_px, height_px)


def _square(center: tuple[float, float], side: int, width_px: int, height_px: int) -> Crop:
    """A square around a point, moved and cut so that it lies in the image."""
    width, height = min(side, width_px), min(side, height_px)
    left = min(max(0, round(center[0] - width / 2)), width_px - width)
    top = min(max(0, round(center[1] - height / 2)), height_px - height)
    return Crop(x_px=left, y_px=top, width_px=width, height_px=height)


def _largest_in(
    anomaly_map: AnomalyMap, box: dict[str, int], width_px: int, height_px: int
) -> tuple[float, float]:
    """Source coordinates of the map's largest value inside a box in source pixels."""
    rows, cols = anomaly_map.shape
    left, right = _scaled(box["x_px"], box["width_px"], cols / width_px, cols)
    top, bottom = _scaled(box["y_px"], box["height_px"], rows / height_px, rows)
    inside = anomaly_map[top:bottom, left:right]
    row, col = np.unravel_index(int(inside.argmax()), inside.shape)
    return (left + col + 0.5) * width_px / cols, (top + row + 0.5) * height_px / rows


def _scaled(start: int, extent: int, scale: float, limit: int) -> tuple[int, int]:
    first = min(int(start * scale), limit - 1)
    return first, max(first + 1, min(limit, round((start + extent) * scale)))


def whole(source: RGBPicture) -> UInt8[ndarray, "small_height small_width 3"]:
    """The whole image in a small size, with its own aspect ratio."""
    height_px, width_px = source.shape[:2]
    scale = min(1.0, _WHOLE_PX / max(height_px, width_px))
    size = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    return cv2.resize(source, size, interpolation=cv2.INTER_AREA)


def overlay(
    anomaly_map: AnomalyMap, threshold: float
) -> UInt8[ndarray, "small_height small_width 4"]:
    """The map in the colours of the contact sheets, RGBA: the lower the value, the clearer."""
    size = min(_MAP_PX, anomaly_map.shape[1]), min(_MAP_PX, anomaly_map.shape[0])
    small = cv2.resize(anomaly_map, size, interpolation=cv2.INTER_AREA)
    levels = small / threshold if threshold else (small > 0) * 1.0
    opacity = np.clip(levels, 0, 1) * _LARGEST_OPACITY
    return np.dstack([heat(small, threshold), opacity.astype(np.uint8)])


def counted_regions(
    anomaly_map: AnomalyMap, threshold: float, count: int
) -> Bool[ndarray, "height width"]:
    """The pixels of the regions that a verdict row lists.

    A component of {map > threshold} is a region if it has the detector's minimum area. So a row
    with ``count`` regions has the ``count`` largest components, and a normal image's row has none.
    """
    above = np.ascontiguousarray(predicted_mask(anomaly_map, threshold)).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # label 0 is all that is not above the threshold
    largest = 1 + np.argsort(-areas, kind="stable")[:count]
    return np.isin(labels, largest)


def outline(mask: Bool[ndarray, "height width"]) -> str:
    """The outline of a mask as an SVG path, in its pixels.

    A path that would be too long is simplified.
    """
    size = mask.shape[1] * _ENLARGED, mask.shape[0] * _ENLARGED
    enlarged = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    tolerance = _ENLARGED / 2
    while len(path := _path(contours, tolerance)) > _LONGEST_OUTLINE:
        tolerance *= 2
        # Small pieces go first; the largest one always remains.
        contours = sorted(contours, key=cv2.contourArea)[len(contours) // 4 :]
    return path


def _path(contours: Any, tolerance: float) -> str:
    lines = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, tolerance, True)[:, 0] / _ENLARGED
        lines.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z")
    return "".join(lines)


def encoded(picture: UInt8[ndarray, "height width channels"], *, max_bytes: int) -> bytes:
    """A picture, RGB or RGBA, as WebP of at most ``max_bytes``.

    The quality falls until that is so, and then the number of pixels.
    """
    conversion = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    pixels = cv2.cvtColor(picture, conversion)
    for quality in _QUALITIES:
        _, data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if len(data) <= max_bytes:
            return data.tobytes()
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return encoded(half, max_bytes=max_bytes)
