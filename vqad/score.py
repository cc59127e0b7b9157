"""From two decodings to map, score and regions (paper section 3.4).

What the resampling took away is what is wrong with the picture, so the anomaly map is the
difference between the direct and the restored decoding, smoothed by a bilateral filter. It is
kept on the 8-bit scale because the filter's sigma of 75 grey levels would be a flat blur on
[0, 1]. The paper raises a threshold until the largest component equals a minimum area; `score`
is the threshold at which that happens, so that score > threshold is the paper's rule, and
exactly the images that are defects have regions.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from vqad.shapes import AnomalyMap

# The filter at 256 px: d=20, sigmaColor=75, sigmaSpace=75. The paper gives no figures; these are
# settled for the project, and distances scale with the size.
_REFERENCE_SIZE_PX = 256
_RADIUS_PX = 10
_SIGMA_SPACE_PX = 75
_SIGMA_COLOUR = 75  # grey levels, at any size
# Pixels that the widest vector registers take at once: the filter rounds the odd ones at the
# end of a row differently.
_LANES_PX = 16

_Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Region:
    """One defective place: a box, an area and a peak (grey levels), in source image pixels."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: float


def difference(
    direct: Float32[ndarray, "height width 3"], restored: Float32[ndarray, "height width 3"]
) -> AnomalyMap:
    """How far two decodings, RGB in [0, 1], are apart at each pixel, in grey levels (eq. 6).

    Raises ValueError where a decoding is not finite: such a map would pass for normal.
    """
    anomaly_map = np.linalg.norm(restored - direct, axis=2) * np.float32(255)
    if not np.isfinite(anomaly_map).all():
        num_broken = np.count_nonzero(~np.isfinite(anomaly_map))
        raise ValueError(
            f"the decodings are not finite at {num_broken} of {anomaly_map.size} pixels; "
            "train the detector again, or inspect in float32"
        )
    return anomaly_map


def smooth(anomaly_map: AnomalyMap, *, input_size_px: int) -> AnomalyMap:
    """Filter the map bilaterally: radius 10, sigma 75 grey levels and 75 px at an input of 256 px.

    For other sizes of the model's input the radius, rounded to a whole pixel and at least 1,
    and the sigma in pixels scale with the size. A map that is zero stays exactly that.
    """
    if input_size_px < 1:
        raise ValueError(f"input_size_px must be at least 1, got {input_size_px}")
    smoothed = np.zeros_like(anomaly_map)
    if not anomaly_map.any():
        return smoothed
    scale = input_size_px / _REFERENCE_SIZE_PX
    radius = max(1, round(_RADIUS_PX * scale))
    # Within the map nothing spreads further than the radius, but the filter rounds differently
    # within another radius of the edges of what it is given and at the ends of vectors. And a
    # box short of the whole map holds a zero, so the filter's colour table spans the same range.
    box = _box(anomaly_map, margin_px=2 * radius + _LANES_PX)
    smoothed[box] = cv2.bilateralFilter(
        np.ascontiguousarray(anomaly_map[box]), 2 * radius, _SIGMA_COLOUR, _SIGMA_SPACE_PX * scale
    )
    return smoothed


def score(anomaly_map: AnomalyMap, *, minimum_area_px: int) -> float:
    """Find the largest t for which {map >= t} has a component of the minimum area (grey levels).

    Components are 8-connected; 0 if there is none. It is the maximum of an area opening.
    """
    _check_area(minimum_area_px)
    if not anomaly_map.any():
        return 0.0
    inside = np.ascontiguousarray(anomaly_map[_box(anomaly_map, margin_px=0)])
    levels = np.sort(inside, axis=None)
    # A level with fewer pixels than the area at or above it cannot be the one.
    candidates = levels[np.count_nonzero(levels <= 0) : max(0, levels.size - minimum_area_px + 1)]
    num_held = bisect_left(
        candidates, True, key=lambda level: _largest_area(inside >= level) < minimum_area_px
    )
    return float(candidates[num_held - 1]) if num_held else 0.0


def verdict(score: float, threshold: float) -> Literal["normal", "defect"]:
    """`defect` if the score is strictly above the threshold."""
    return "defect" if score > threshold else "normal"


def predicted_mask(
    anomaly_map: Float32[ndarray, "*batch height width"], threshold: float
) -> Bool[ndarray, "*batch height width"]:
    """Where the map, or each of a stack of maps, is strictly above the threshold."""
    # As float64, or numpy would round the threshold to float32 and `verdict` would not.
    return anomaly_map > np.float64(threshold)


def regions(
    anomaly_map: AnomalyMap,
    *,
    threshold: float,
    minimum_area_px: int,
    source_width_px: int,
    source_height_px: int,
) -> list[Region]:
    """List the 8-connected components above the threshold, the highest peak first.

    The minimum area counts pixels of the map. Boxes and areas are scaled to source image pixels,
    boxes outwards to whole ones.
    """
    _check_area(minimum_area_px)
    if min(source_width_px, source_height_px) < 1:
        raise ValueError(
            f"the source image must have pixels, got {source_width_px} x {source_height_px}"
        )
    above = predicted_mask(anomaly_map, threshold)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(
        above.view(np.uint8), connectivity=8
    )
    found = []
    for label in range(1, num_labels):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area >= minimum_area_px:
            box = slice(y, y + height), slice(x, x + width)
            peak = float(anomaly_map[box][labels[box] == label].max())
            source = source_height_px, source_width_px
            found.append(_to_source(box, area, peak, shape=anomaly_map.shape, source=source))
    return sorted(found, key=lambda region: -region.peak)


def _to_source(
    box: _Box, area: int, peak: float, *, shape: tuple[int, ...], source: tuple[int, int]
) -> Region:
    """Stretch a component from a map of (height, width) `shape` to an image of `source`."""
    (top, bottom), (left, right) = (
        # In whole numbers: no rounding error moves an edge that falls between two pixels.
        (side.start * new // old, -(-side.stop * new // old))
        for side, old, new in zip(box, shape, source, strict=True)
    )
    area_scale = source[0] * source[1] / (shape[0] * shape[1])
    return Region(
        x_px=left,
        y_px=top,
        width_px=right - left,
        height_px=bottom - top,
        area_px=max(1, round(area * area_scale)),
        peak=peak,
    )


def _box(anomaly_map: AnomalyMap, *, margin_px: int) -> _Box:
    """Put a box around all that is not zero and a margin; its start is clipped to the map.

    With a margin, columns begin and end at whole vectors, as they do in the whole map.
    """
    x, y, width, height = cv2.boundingRect((anomaly_map != 0).view(np.uint8))
    lanes = _LANES_PX if margin_px else 1
    left = max(0, x - margin_px) // lanes * lanes
    right = -(-(x + width + margin_px) // lanes) * lanes
    return slice(max(0, y - margin_px), y + height + margin_px), slice(left, right)


def _largest_area(mask: Bool[ndarray, "height width"]) -> int:
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def _check_area(minimum_area_px: int) -> None:
    if minimum_area_px < 1:
        raise ValueError(f"minimum_area_px must be at least 1, got {minimum_area_px}")
