"""The columns of a verdict row about the regions of an image, in pixels and in millimetres."""

from collections.abc import Sequence
from typing import Any

from vqad.detection.score import Region
from vqad.detection.settings import Settings


def region_columns(regions: Sequence[Region], settings: Settings) -> dict[str, Any]:
    """The columns that an image with these regions has, which may be none.

    Millimetres are null if the detector's settings have no scale.
    """
    scale = settings.px_per_mm
    return {
        "regions": [vars(each) for each in regions],
        "region_lengths_px": [each.length_px for each in regions],
        "regions_mm": None if scale is None else [_in_mm(each, scale) for each in regions],
    }


def _in_mm(region: Region, px_per_mm: float) -> dict[str, float]:
    lengths = ("x", "y", "width", "height", "length")
    found = {f"{name}_mm": getattr(region, f"{name}_px") / px_per_mm for name in lengths}
    return found | {"area_mm2": region.area_px / px_per_mm**2}
