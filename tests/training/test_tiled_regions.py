"""A detector with tiles and a region of interest: only what lies inside counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_tiled_category import (
    SIZE_PX,
    data,
    file_of,
    fitted,
    options_of,
    pictures,
    read_from,
    small_preset,
)
from vqad.detection.evidence import Inspection
from vqad.detector import Detector
from vqad.images.decoding import WholeImage, decode_whole
from vqad.images.roi import RegionOfInterest
from vqad.training.recalibrate import recalibrate
from vqad.training.tiled_category import training_of

__all__ = ["data", "small_preset"]  # fixtures, and the second is used by every test here


def region() -> RegionOfInterest:
    """The left 44 columns: of the tiles that begin at column 48, nothing is inside."""
    mask = np.zeros((SIZE_PX, SIZE_PX), bool)
    mask[:, :44] = True
    return RegionOfInterest(mask=mask, source_px=(SIZE_PX, SIZE_PX))


def fitted_inside(data: str, form: str) -> Detector:
    options = options_of(form)
    return fitted(training_of(read_from(data, options, roi=region()), options))


@pytest.fixture(scope="module")
def inside(small_preset: None, data: str) -> Detector:
    return fitted_inside(data, "full")


@pytest.fixture(scope="module")
def plain_inside(small_preset: None, data: str) -> Detector:
    return fitted_inside(data, "plain")


def with_defect(left_px: int) -> WholeImage:
    picture = pictures()[0].copy()
    picture[20:50, left_px : left_px + 30] = (255, 0, 255)
    return decode_whole(file_of(picture))


def assert_same(detector: Detector, one: WholeImage, other: WholeImage) -> Inspection:
    (found, whole), (again, same) = (detector.inspect_whole(each) for each in (one, other))
    assert found.scores == again.scores
    np.testing.assert_array_equal(found.anomaly_maps[0], again.anomaly_maps[0])
    assert torch.equal(whole.codes, same.codes)
    assert (whole.num_changed, whole.mean_looks) == (same.num_changed, same.mean_looks)
    return found


@pytest.mark.parametrize("form", ["full", "plain"])
def test_a_defect_outside_of_the_region_changes_nothing(
    form: str, inside: Detector, plain_inside: Detector
) -> None:
    detector = inside if form == "full" else plain_inside
    good = assert_same(detector, decode_whole(file_of(pictures()[0])), with_defect(48))
    assert not good.anomaly_maps[0][:, 22:].any()
    assert len(good.codes) == 6
    assert detector.settings.roi_source_px == (SIZE_PX, SIZE_PX)
    assert len(detector.settings.found.held_out_scores) == 2


def test_a_defect_inside_of_the_region_is_found(inside: Detector) -> None:
    found, _ = inside.inspect_whole(with_defect(10))
    assert found.verdicts == ["defect"]
    (anomaly_map,) = found.anomaly_maps
    regions = inside.regions(anomaly_map, source_width_px=SIZE_PX, source_height_px=SIZE_PX)
    assert regions
    assert max(each.x_px + each.width_px for each in regions) <= 44


def test_what_lies_outside_of_the_region_shapes_no_fit(data: str, tmp_path: Path) -> None:
    other = tmp_path / "fabric" / "train" / "good"
    other.mkdir(parents=True)
    for at, picture in enumerate(pictures()):
        changed = picture.copy()
        changed[:, 44:] = 255 - changed[:, 44:]
        (other / f"{at:02}.png").write_bytes(file_of(changed))
    found, same = (
        read_from(each, options_of("full"), roi=region()) for each in (data, str(tmp_path))
    )
    np.testing.assert_array_equal(found.pixels, same.pixels)


def test_the_region_is_saved_and_used_by_a_calibration(
    plain_inside: Detector, data: str, tmp_path: Path
) -> None:
    models = str(tmp_path)
    plain_inside.save(models)
    asked = replace(options_of("plain"), tile_px=None, tile_overlap_px=None)
    done = recalibrate(data, models, asked, cpus=1, gpus=0.0)
    assert "failed" not in done, done
    again = Detector.load(models, "fabric")
    assert again.settings.roi_source_px == (SIZE_PX, SIZE_PX)
    assert again.settings.threshold == plain_inside.settings.threshold
    assert_same(again, decode_whole(file_of(pictures()[0])), with_defect(48))


def test_an_image_of_another_size_than_the_region_is_refused(data: str) -> None:
    mask = np.ones((SIZE_PX * 2, SIZE_PX * 2), bool)
    roi = RegionOfInterest(mask=mask, source_px=(SIZE_PX * 2, SIZE_PX * 2))
    message = r"has 80 x 80 pixels, but the region of interest is of images of 160 x 160; give a"
    with pytest.raises(ValueError, match=message):
        read_from(data, options_of("full"), roi=roi)
