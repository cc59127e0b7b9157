"""Images that keep their aspect ratio: padding counts in no map, score or statistic."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.random_detectors import assert_equal_bits, detector_of, pictures
from tests.training.test_full_form import fitted_washer
from vqad.detection import area_score, score
from vqad.detection.area_score import AreaRule, usual_areas
from vqad.detector import Detector
from vqad.images.placement import Geometry, ImageForm, Size
from vqad.images.tensors import to_images, to_tensor

WIDE: Size = (64, 32)
SIZE_PX = 32
PAD = Geometry(form=ImageForm(size_px=SIZE_PX, resize="pad"))


def padded(
    num: int = 6, *, source: Size = WIDE, seed: int = 0, form: ImageForm = PAD.form
) -> Tensor:
    rng = np.random.default_rng(seed)
    sources = rng.integers(0, 256, (num, source[1], source[0], 3), np.uint8)
    return to_images(to_tensor(np.stack([form.with_padding(each) for each in sources])))


@pytest.fixture(scope="module")
def full() -> Detector:
    return fitted_washer()


def test_maps_cover_the_source_images_and_square_images_have_the_same_bits() -> None:
    squash = detector_of()
    pad = detector_of(resize="pad")
    images = pictures()
    assert_equal_bits(pad.inspect(images), squash.inspect(images))
    assert_equal_bits(pad.inspect(images, [(77, 77)] * len(images)), squash.inspect(images))
    found = pad.inspect(padded(form=pad.settings.image_form), [WIDE] * 6)
    assert {each.shape for each in found.anomaly_maps} == {(8, 16)}
    assert [score.score(each, minimum_area_px=4) for each in found.anomaly_maps] == found.scores


@pytest.mark.parametrize("form", ["plain", "full"])
def test_the_score_is_that_of_the_map_whatever_the_aspect_ratio(full: Detector, form: str) -> None:
    detector: Any = full if form == "full" else detector_of()
    detector = detector.with_settings(resize="pad")
    sources = [WIDE, (32, 64), (90, 10), (32, 32)]
    taken = detector.settings.image_form
    images = torch.cat(
        [padded(1, source=each, seed=at, form=taken) for at, each in enumerate(sources)]
    )
    found = detector.inspect(images, sources)
    shapes = [taken.shape_of(each) for each in sources]
    assert [each.shape for each in found.anomaly_maps] == shapes
    area_px = detector.settings.minimum_area_px
    for anomaly_map, own in zip(found.anomaly_maps, found.scores, strict=True):
        assert score.score(anomaly_map, minimum_area_px=area_px) == own


def test_what_is_unusual_in_the_padding_changes_neither_score_nor_map() -> None:
    placement = PAD.placement(WIDE)
    rng = np.random.default_rng(0)
    field = rng.normal(size=(16, 16)).astype(np.float32)
    other = field.copy()
    other[:4], other[12:] = 1000, 1000
    normal = [rng.normal(size=(16, 16)).astype(np.float32) for _ in range(8)]
    rule = AreaRule(usual=usual_areas(normal, np.stack([_middle()] * 8)), scale=2.0)
    sizes: dict[str, int] = {"size_px": SIZE_PX, "minimum_area_px": 9}
    one, same = (
        area_score.judged([each], rule, placements=[placement], **sizes) for each in (field, other)
    )
    assert one[0] == same[0]
    assert np.array_equal(one[1][0], same[1][0])
    assert score.score(one[1][0], minimum_area_px=9) == one[0][0]


def _middle() -> np.ndarray:
    places = np.zeros((16, 16), bool)
    places[4:12] = True
    return places


def test_without_a_component_above_zero_only_what_counts_is_raised() -> None:
    inside = np.zeros((8, 8), bool)
    inside[2:6, 2:6] = True
    found = area_score.agreeing_map(
        np.zeros((8, 8), np.float32), image_score=3.0, minimum_area_px=4, inside=inside
    )
    assert np.array_equal(found, np.where(inside, np.float32(3), np.float32(0)))


def test_saved_and_loaded_it_still_pads(tmp_path: Any) -> None:
    detector = detector_of(resize="pad")
    detector.save(str(tmp_path))
    loaded = Detector.load(str(tmp_path), "washer")
    form = loaded.settings.image_form
    assert form == ImageForm(size_px=16, resize="pad")
    images = padded(form=form)
    assert_equal_bits(loaded.inspect(images, [WIDE] * 6), detector.inspect(images, [WIDE] * 6))
