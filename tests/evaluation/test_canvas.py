"""Maps of several shapes in one array: what does not count is in no metric."""

import numpy as np
import pytest

from vqad.evaluation import measure, metrics
from vqad.evaluation.canvas import canvas_of, stacked
from vqad.images.placement import Geometry, ImageForm
from vqad.images.roi import RegionOfInterest

SHAPES = [(4, 8), (8, 4), (8, 8)]
SOURCES = [(80, 40), (40, 80), (80, 80)]


def maps_of(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.uniform(0, 4, shape).astype(np.float32) for shape in SHAPES]


def test_maps_of_one_shape_are_stacked_and_all_of_them_counts() -> None:
    maps = [np.full((4, 8), value, np.float32) for value in (1, 2)]
    canvas = canvas_of([(4, 8)] * 2, [(80, 40)] * 2, None)
    assert canvas.counted is None
    assert np.array_equal(stacked(list(maps)), np.stack(maps))


def test_metrics_are_those_of_the_pixels_of_the_maps_alone() -> None:
    rng = np.random.default_rng(0)
    maps, canvas = maps_of(rng), canvas_of(SHAPES, SOURCES, None)
    masks = np.zeros((3, 8, 8), bool)
    masks[0, :2, :3], masks[1, 2:4, :2] = True, True
    found = metrics.evaluate(
        np.array([3.0, 2.0, 1.0]),
        np.array([True, True, False]),
        stacked(list(maps)),
        masks,
        threshold=3.0,
        counted=canvas.counted,
    )
    pixels = np.concatenate([each.ravel() for each in maps])
    truth = np.concatenate([canvas.cropped(masks, at).ravel() for at in range(3)])
    assert found.pixel_auroc == pytest.approx(metrics.auroc(truth, pixels))
    assert found.pixel_f1 == pytest.approx(metrics.f1(truth, pixels > 3))
    counts = measure.distribution(stacked(list(maps)), masks, canvas.counted)
    assert counts.sum(1).tolist() == [pixels.size - truth.sum(), truth.sum()]


def test_pixels_outside_a_region_do_not_count() -> None:
    mask = np.zeros((80, 80), bool)
    mask[:, :40] = True
    region = RegionOfInterest(mask=mask, source_px=(80, 80))
    geometry = Geometry(form=ImageForm(size_px=8, roi_source_px=(80, 80)), roi=region)
    canvas = canvas_of([(8, 8)], [(80, 80)], geometry)
    assert canvas.counted is not None
    assert canvas.counted[0, :, :4].all()
    assert not canvas.counted[0, :, 4:].any()
