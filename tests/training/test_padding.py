"""Detectors of images of mixed aspect ratio, from the fit to the verdict."""

from typing import Any

import numpy as np
import pytest

from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET
from tests.training.test_segmenter import SMALL
from vqad import synthetic
from vqad.detection.score import score
from vqad.detector import Detector
from vqad.images.placement import Geometry, ImageForm, Size
from vqad.images.tensors import to_images, to_tensor
from vqad.training.category import Training
from vqad.training.harmless_copies import harmless_copies
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset

FORM = ImageForm(size_px=16, resize="pad")
SIZES: list[Size] = [(48, 24), (24, 48), (48, 48)] * 8


def drawn() -> np.ndarray:
    rng = np.random.default_rng(3)
    found = []
    for width, height in SIZES:
        picture = synthetic.draw("washer", size_px=48, rng=rng)
        found.append(FORM.with_padding(picture[:height, :width]))
    return np.stack(found)


PIXELS = drawn()


def fitted(**options: Any) -> Detector:
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset(
            vqvae=CONFIG,
            prior=PRIOR,
            fit_vqvae=VQVAE_BUDGET,
            fit_prior=PRIOR_BUDGET,
            segmenter=SMALL,
            num_copies=6,
        )
        patch.setitem(PRESETS, "tiny", preset)
        asked = TrainOptions(category="washer", preset="tiny", resize="pad", **options)
        names = [f"file:///washers/{at:02}.png" for at in range(len(PIXELS))]
        training = Training(names, PIXELS, asked, geometry=Geometry(form=FORM), sizes_px=SIZES)
        assert list(training.records())
        return training.detector()


@pytest.mark.parametrize(
    "options",
    [
        {"form": "full", "kind": "texture", "eta": 0.05},
        {"form": "joined", "kind": "rotatable_object", "eta": 0.05},
        {"form": "plain", "eta": "auto"},
    ],
)
def test_images_of_mixed_shapes_are_fitted_and_their_maps_cover_them(
    options: dict[str, Any],
) -> None:
    detector = fitted(**options)
    assert detector.settings.resize == "pad"
    assert detector.settings.preprocessing["aspect_ratio"].startswith("kept")
    bad = PIXELS[:6].copy()
    bad[:, 6:9, 6:9] = (255, 0, 0)
    found = detector.inspect(to_images(to_tensor(bad)), SIZES[:6])
    shapes = [FORM.shape_of(each) for each in SIZES[:6]]
    assert [each.shape for each in found.anomaly_maps] == shapes
    area_px = detector.settings.minimum_area_px
    for anomaly_map, own in zip(found.anomaly_maps, found.scores, strict=True):
        assert score(anomaly_map, minimum_area_px=area_px) == own
    if options["form"] == "full":
        good = detector.inspect(to_images(to_tensor(PIXELS[:6])), SIZES[:6])
        assert min(np.subtract(found.scores, good.scores)) > 0


def test_a_harmless_change_is_one_of_the_image_and_not_of_its_padding() -> None:
    geometry = Geometry(form=FORM)
    placements = geometry.placements(len(SIZES), SIZES)
    copies = harmless_copies(PIXELS, np.random.default_rng(0), placements)
    for its, copy in zip(placements, copies, strict=True):
        assert np.array_equal(its.in_square(its.cropped(copy)), copy)
