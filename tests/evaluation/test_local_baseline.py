"""Local statistics as a baseline: fitted on all good images, stored, named where it is better."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.model.test_vqvae import CONFIG
from tests.test_detector import detector_of
from vqad.detection.fit_record import FitRecord
from vqad.detection.score import score
from vqad.detection.weights import DetectorError
from vqad.evaluation.local_baseline import LOCAL, LocalBaseline, local_baseline
from vqad.evaluation.markdown import text
from vqad.evaluation.measure import RESAMPLING, Measured
from vqad.evaluation.methods import LocalMethod
from vqad.evaluation.metrics import Metrics
from vqad.images.placement import Geometry, ImageForm
from vqad.images.tensors import to_images, to_tensor
from vqad.synthetic import draw
from vqad.training.options import TrainOptions

RNG = np.random.default_rng(0)
PIXELS = np.stack([draw("washer", size_px=32, rng=RNG) for _ in range(16)])
OPTIONS = TrainOptions(category="washer", kind="rotatable_object", preset="tiny")


@pytest.fixture(scope="module")
def fitted() -> LocalBaseline:
    found = FitRecord(options=asdict(OPTIONS))
    vqvae = replace(CONFIG, image_size_px=32)
    settings = replace(detector_of().settings, vqvae=vqvae, found=found)
    return local_baseline([f"{at}.png" for at in range(16)], PIXELS, settings=settings)


def broken() -> np.ndarray:
    pixels = PIXELS[:4].copy()
    pixels[:, 10:18, 10:18] = (255, 0, 0)
    return pixels


def test_defects_are_found_and_marked_and_its_own_images_are_normal(fitted: LocalBaseline) -> None:
    threshold = fitted.settings.threshold
    scores, maps = fitted.inspect(to_images(to_tensor(broken())))
    assert min(scores) > threshold
    for anomaly_map in maps:
        assert score(anomaly_map, minimum_area_px=fitted.settings.minimum_area_px) > threshold
        row, col = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        assert 8 <= row < 20
        assert 8 <= col < 20
    assert max(fitted.inspect(to_images(to_tensor(PIXELS)))[0]) < min(scores)


def test_a_near_copy_is_not_scored_by_statistics_of_its_twin() -> None:
    pixels = PIXELS.copy()
    pixels[1::2] = pixels[::2]  # each is in the data twice
    settings = replace(
        detector_of().settings,
        vqvae=replace(CONFIG, image_size_px=32),
        found=FitRecord(options=asdict(OPTIONS)),
    )
    names = [f"{at}.png" for at in range(16)]
    once = local_baseline(names[::2], pixels[::2], settings=settings).statistics
    twice = local_baseline(names, pixels, settings=settings).statistics
    # Scored by its twin, an image would be at no distance from normal ones.
    assert twice.standard[:, 0] == pytest.approx(once.standard[:, 0], rel=0.3)


def test_saved_and_loaded_it_gives_the_same_maps(fitted: LocalBaseline, tmp_path: Path) -> None:
    fitted.save(str(tmp_path / "one"))
    loaded = LocalBaseline.load(str(tmp_path / "one"))
    assert loaded.settings == fitted.settings
    images = to_images(to_tensor(broken()))
    assert np.array_equal(loaded.inspect(images)[1], fitted.inspect(images)[1])
    method = LocalMethod(str(tmp_path / "one"), Geometry(form=ImageForm(size_px=32)))
    inspect, taken = method.loaded()
    assert list(inspect(images, [(32, 32)] * len(images))) == [LOCAL]
    assert taken.form.size_px == 32
    assert method.thresholds() == {LOCAL: fitted.settings.threshold}


def test_what_was_tampered_with_is_refused(fitted: LocalBaseline, tmp_path: Path) -> None:
    fitted.save(str(tmp_path))
    record = tmp_path / "baseline.json"
    written = json.loads(record.read_text())
    record.write_text(json.dumps({**written, "format_version": 99}))
    with pytest.raises(DetectorError, match="has another format"):
        LocalBaseline.load(str(tmp_path))
    written["settings"]["statistics"]["num_in_bank"] = 1000
    record.write_text(json.dumps(written))
    with pytest.raises(DetectorError, match="num_in_bank must be from 1 to 64, got 1000"):
        LocalBaseline.load(str(tmp_path))


def measured(method: str, **changes: float) -> Measured:
    values = dict.fromkeys((each.name for each in fields(Metrics)), 0.8)
    return Measured(
        category="tile",
        method=method,
        threshold=1.0,
        num_good=2,
        num_defect=2,
        num_rejected=0,
        metrics=Metrics(**{**values, **changes}),
    )


def test_a_detector_that_is_worse_than_local_statistics_is_named() -> None:
    rows = [measured(RESAMPLING, image_auroc=0.7), measured(LOCAL)]
    found = text(rows, about=[])
    assert (
        "**tile: the detector is worse than local statistics alone** in image AUROC (0.700 against "
        "0.800). Local statistics are fitted in seconds, without a network." in found
    )


@pytest.mark.parametrize("rows", [[RESAMPLING], [RESAMPLING, LOCAL]])
def test_a_detector_that_is_not_worse_is_not_named(rows: list[str]) -> None:
    assert "is worse than" not in text([measured(method) for method in rows], about=[])
