"""The anomaly map of two decodings: their difference, filtered (section 3.4, eq. 6)."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from vqad.array_types import AnomalyMap
from vqad.detection import image_threads
from vqad.detection.bilateral import bilateral
from vqad.images.placement import Placement
from vqad.model.finite import NotFiniteError

# The filter at 256 px: d=20, sigmaColor=75, sigmaSpace=75. The paper has no numbers for it; these
# are chosen for this project, and distances scale with the size.
_REFERENCE_SIZE_PX = 256
_RADIUS_PX = 10
_SIGMA_SPACE_PX = 75.0
_SIGMA_COLOUR = 75.0  # grey levels, at any size

# Pixels that the widest vector registers process at once. The filter rounds the remaining pixels at
# the end of a row differently.
_LANES_PX = 16

Box = tuple[slice, slice]


def difference(
    direct: Float32[ndarray, "height width 3"], restored: Float32[ndarray, "height width 3"]
) -> AnomalyMap:
    """Distance of two decodings, RGB in [0, 1], at each pixel, in grey levels (eq. 6).

    Raises NotFiniteError if a decoding is not finite: such a map would pass for normal.
    """
    anomaly_map = np.linalg.norm(restored - direct, axis=2) * np.float32(255)
    _check_finite(anomaly_map)
    return anomaly_map


def _check_finite(maps: ndarray) -> None:
    if not np.isfinite(maps).all():
        num_broken = np.count_nonzero(~np.isfinite(maps))
        raise NotFiniteError(
            f"the decodings are not finite at {num_broken} of {maps.size} pixels; "
            "train the detector again, or inspect in float32"
        )


def smooth(anomaly_map: AnomalyMap, *, input_size_px: int) -> AnomalyMap:
    """Filter the map bilaterally: radius 10, sigma 75 grey levels and 75 px at an input of 256 px.

    For other sizes of the model's input the radius, rounded to a whole pixel and at least 1,
    and the sigma in pixels scale with the size. A map that is zero everywhere stays exactly zero.
    """
    if input_size_px < 1:
        raise ValueError(f"input_size_px must be at least 1, got {input_size_px}")
    smoothed = np.zeros_like(anomaly_map)
    if not anomaly_map.any():
        return smoothed
    radius, sigma_space_px = _radius_and_sigma(input_size_px)
    # The result has to equal in bits that of filtering the whole map. Nothing spreads further than
    # the radius. But the filter rounds differently within another radius of the edges of its input,
    # and at the ends of vectors: hence the margin. And unless the box is the whole map, it has a
    # pixel that is zero, so the range of values, which the filter's table depends on, is the same.
    box = bounding_box(anomaly_map, margin_px=2 * radius + _LANES_PX)
    smoothed[box] = cv2.bilateralFilter(
        np.ascontiguousarray(anomaly_map[box]), 2 * radius, _SIGMA_COLOUR, sigma_space_px
    )
    return smoothed


def _radius_and_sigma(input_size_px: int) -> tuple[int, float]:
    """Radius and sigma in space of the filter, in pixels."""
    scale = input_size_px / _REFERENCE_SIZE_PX
    return max(1, round(_RADIUS_PX * scale)), _SIGMA_SPACE_PX * scale


def maps_of_pairs(
    num: int,
    changed: Sequence[int],
    direct: Float32[Tensor, "changed height width 3"],
    restored: Float32[Tensor, "changed height width 3"],
    *,
    size_px: int,
    filtered: bool = True,
    placements: Sequence[Placement] | None = None,
) -> list[AnomalyMap]:
    """The maps of ``num`` images, exactly 0 but at the positions ``changed``, which have decodings.

    Unless ``filtered``, they are eq. 6 without the bilateral filter. They are of the model's input.
    Pixels that don't count by ``placements`` have no difference.
    """
    maps = [np.zeros((size_px, size_px), np.float32) for _ in range(num)]
    of_pairs = _on_gpu if direct.is_cuda else _on_cpu
    if len(changed):
        if placements:
            restored = _same_outside(direct, restored, [placements[at] for at in changed])
        for at, found in zip(changed, of_pairs(direct, restored, size_px, filtered), strict=True):
            maps[at] = found
    return maps


def _same_outside(direct: Tensor, restored: Tensor, placements: Sequence[Placement]) -> Tensor:
    """The restored pictures, where they don't count as the direct ones: no difference."""
    if all(each.counted is None for each in placements):
        return restored
    everywhere = np.ones(direct.shape[1:3], bool)
    found = [everywhere if each.counted is None else each.counted for each in placements]
    counted = torch.from_numpy(np.stack(found)).to(direct.device)
    return torch.where(counted[..., None], restored, direct)


def _on_cpu(direct: Tensor, restored: Tensor, size_px: int, filtered: bool) -> Sequence[AnomalyMap]:
    def of_pair(one: ndarray, other: ndarray) -> AnomalyMap:
        found = difference(one, other)
        return smooth(found, input_size_px=size_px) if filtered else found

    return image_threads.of_each(of_pair, direct.numpy(), restored.numpy())


def _on_gpu(direct: Tensor, restored: Tensor, size_px: int, filtered: bool) -> Sequence[AnomalyMap]:
    maps = (restored - direct).norm(dim=-1) * 255
    if filtered:
        radius_px, sigma_space_px = _radius_and_sigma(size_px)
        maps = bilateral(
            maps, radius_px=radius_px, sigma_colour=_SIGMA_COLOUR, sigma_space_px=sigma_space_px
        )
    found = maps.cpu().numpy()
    _check_finite(found)
    return list(found)


def bounding_box(anomaly_map: AnomalyMap, *, margin_px: int) -> Box:
    """The box around all pixels that are not zero, with a margin; its start is clipped to the map.

    With a margin, columns begin and end at whole vectors, as they do in the whole map.
    """
    x, y, width, height = cv2.boundingRect((anomaly_map != 0).view(np.uint8))
    lanes = _LANES_PX if margin_px else 1
    left = max(0, x - margin_px) // lanes * lanes
    right = -(-(x + width + margin_px) // lanes) * lanes
    return slice(max(0, y - margin_px), y + height + margin_px), slice(left, right)
