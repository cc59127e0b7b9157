"""The form full: fitted beside the networks, saved, loaded, and refused where it is broken."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET, drawn_pixels
from tests.training.test_segmenter import SMALL
from vqad.detection.area_score import UNIT
from vqad.detection.score import score
from vqad.detection.settings import FORMAT_VERSION, GREY_LEVELS
from vqad.detection.weights import DetectorError
from vqad.detection.witnesses import (
    DIFFERENCE,
    SURPRISAL,
    WEIGHTS,
    WEIGHTS_WITH_SEGMENTER,
)
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor
from vqad.model.segmenter import SegmenterConfig
from vqad.training import full_form
from vqad.training.category import Training
from vqad.training.full_form import NormalImages
from vqad.training.options import TrainOptions, recorded_options
from vqad.training.presets import PRESETS, Preset

PIXELS = drawn_pixels(24)
NAMES = [f"file:///washers/{number:02}.png" for number in range(24)]


@cache
def fitted_washer() -> Detector:
    """Fitted once for all modules of tests."""
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset(
            vqvae=CONFIG,
            prior=PRIOR,
            fit_vqvae=VQVAE_BUDGET,
            fit_prior=PRIOR_BUDGET,
            segmenter=SMALL,
        )
        patch.setitem(PRESETS, "tiny", preset)
        options = TrainOptions(
            category="washer", kind="rotatable_object", preset="tiny", form="full", eta=0.05
        )
        training = Training(NAMES, PIXELS, options)
        assert list(training.records())
        return training.detector()


@pytest.fixture(scope="module")
def washer() -> Detector:
    return fitted_washer()


def images(pixels: np.ndarray) -> torch.Tensor:
    return to_images(to_tensor(pixels))


def broken() -> np.ndarray:
    pixels = PIXELS[:6].copy()
    side = pixels.shape[1]
    pixels[:, side // 3 : side // 2, side // 3 : side // 2] = (255, 0, 0)
    return pixels


def test_all_normal_images_set_its_threshold_in_its_own_unit(washer: Detector) -> None:
    settings, found = washer.settings, washer.settings.found
    assert (settings.form, settings.unit) == ("full", UNIT)
    assert len(found.cross_fitted_scores) == 24
    assert set(found.held_out_scores) <= set(found.cross_fitted_scores)
    assert len(found.held_out_scores) == len(found.held_out)
    # Five in a hundred of 24 and a new one: that is one, the largest of them.
    assert settings.threshold == np.float32(max(found.cross_fitted_scores))
    record = found.threshold
    assert record is not None
    assert (record.rule, record.source) == ("conformal", ["cross-fitted images"])
    assert (record.num_scores, record.rate) == (24, pytest.approx(1 / 25))
    assert [each.name for each in settings.witnesses] == list(WEIGHTS_WITH_SEGMENTER)


def test_defects_are_found_and_the_map_agrees_with_the_verdict(washer: Detector) -> None:
    bad, good = washer.inspect(images(broken())), washer.inspect(images(PIXELS))
    assert set(bad.verdicts) == {"defect"}
    assert good.verdicts.count("defect") <= 2
    settings = washer.settings
    for found in (bad, good):
        for verdict, anomaly_map in zip(found.verdicts, found.anomaly_maps, strict=True):
            level = score(anomaly_map, minimum_area_px=settings.minimum_area_px)
            assert (level > settings.threshold) == (verdict == "defect")
            size_px = settings.vqvae.image_size_px
            regions = washer.regions(anomaly_map, source_width_px=size_px, source_height_px=size_px)
            assert bool(regions) == (verdict == "defect")
    assert all(set(each) == set(WEIGHTS_WITH_SEGMENTER) for each in bad.shares)
    assert [sum(each.values()) for each in bad.shares] == pytest.approx([1] * 6)


def test_saved_and_loaded_it_gives_equal_bits(washer: Detector, tmp_path: Path) -> None:
    version = washer.save(str(tmp_path))
    folder = tmp_path / "washer" / version
    record = json.loads((folder / "detector.json").read_text())
    assert record["format_version"] == FORMAT_VERSION
    assert record["settings"]["unit"] == UNIT
    assert set(record["files"]) == {
        *("vqvae.safetensors", "prior.safetensors"),
        *("local_statistics.safetensors", "segmenter.safetensors"),
    }
    loaded = Detector.load(str(tmp_path), "washer")
    assert loaded.settings == washer.settings
    one, other = (each.inspect(images(broken())) for each in (washer, loaded))
    assert one.scores == other.scores
    np.testing.assert_array_equal(one.anomaly_maps, other.anomaly_maps)


@pytest.mark.parametrize("part", ["local_statistics", "segmenter"])
def test_other_parts_than_the_recorded_ones_are_refused(
    washer: Detector, tmp_path: Path, part: str
) -> None:
    path = tmp_path / "washer" / washer.save(str(tmp_path)) / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DetectorError, match="does not match its recorded hash"):
        Detector.load(str(tmp_path), "washer")
    path.unlink()
    with pytest.raises(DetectorError, match=part):
        Detector.load(str(tmp_path), "washer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"witnesses": ()}, "the full form has the witnesses local statistics, segmenter"),
        ({"segmenter": SegmenterConfig(num_channels=7)}, "must have num_channels 78, .* got 7"),
        ({"segmenter": None}, "the witnesses local statistics, surprisal, difference, got"),
        ({"area_rule": None}, "needs local_statistics and area_rule"),
        ({"unit": GREY_LEVELS}, "the unit of the full form is"),
        ({"threshold": 1e9}, r"threshold must be in \[0, 1000000.0\)"),
    ],
)
def test_settings_that_no_full_verdict_can_be_made_with_are_refused(
    washer: Detector, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(washer.settings, **changes)


def test_a_full_detector_without_its_parts_is_refused(washer: Detector) -> None:
    networks = washer.vqvae, washer.prior, washer.settings
    with pytest.raises(ValueError, match="the full form needs fitted local statistics"):
        Detector(*networks)
    with pytest.raises(ValueError, match="settings name a segmenter: a fitted one is needed"):
        Detector(*networks, local_statistics=washer.local_statistics)


def test_a_detector_of_an_older_program_has_no_segmenter_and_judges_as_before(
    washer: Detector, tmp_path: Path
) -> None:
    three = [each for each in washer.settings.witnesses if each.name in WEIGHTS]
    witnesses = tuple(replace(each, weight=WEIGHTS[each.name]) for each in three)
    old_settings = {"segmenter": None, "witnesses": witnesses, "turned_reading": True}
    settings = replace(washer.settings, **old_settings)
    old = Detector(washer.vqvae, washer.prior, settings, local_statistics=washer.local_statistics)
    folder = tmp_path / "washer" / old.save(str(tmp_path))
    assert not (folder / "segmenter.safetensors").exists()
    record = json.loads((folder / "detector.json").read_text())
    del record["settings"]["segmenter"]
    assert record["settings"].pop("turned_reading") is True
    (folder / "detector.json").write_text(json.dumps({**record, "format_version": 4}))
    loaded = Detector.load(str(tmp_path), "washer")
    one, other = (each.inspect(images(broken())) for each in (old, loaded))
    assert one.scores == other.scores
    assert all(set(each) == set(WEIGHTS) for each in other.shares)


def test_the_paper_s_form_of_a_full_detector_is_that_of_its_networks(washer: Detector) -> None:
    plain = washer.with_settings(form="plain", unit=GREY_LEVELS, threshold=1.0)
    found, other = (each.evidence(images(PIXELS[:4])) for each in (plain, washer))
    expected = washer.anomaly_maps(found.codes, other.restored_codes)
    np.testing.assert_array_equal(plain.judged(found, [])[1], expected)


def test_near_copies_are_scored_by_statistics_that_saw_neither(
    washer: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = PIXELS.copy()
    pixels[20] = pixels[4]
    seen: list[str] = []

    def fit_statistics(pixels: np.ndarray, *, groups: list[str], **_: object) -> None:
        seen.extend(groups)
        raise InterruptedError

    monkeypatch.setattr(full_form, "fit_statistics", fit_statistics)
    normal = NormalImages.of(to_tensor(pixels[:3]), to_tensor(pixels[3:]), names=NAMES)
    with pytest.raises(InterruptedError):
        full_form.fit(
            normal, washer, TrainOptions(category="washer", kind="object"), segmenter=None
        )
    assert seen[20] == seen[4] == NAMES[4]
    assert len(set(seen)) == 23


def test_copies_of_held_out_images_are_compared_with_the_other_held_out_images(
    washer: Detector,
) -> None:
    joined = washer.with_settings(form="joined", unit=GREY_LEVELS, threshold=0.0)
    options = recorded_options(washer.settings.found.options, "washer")
    normal = NormalImages.of(to_tensor(PIXELS[:3]), to_tensor(PIXELS[3:12]), names=NAMES[:12])
    found, without = (
        full_form.fit(normal, joined, options, segmenter=None, num_copies=num) for num in (12, 0)
    )
    assert (len(found.by_witness), len(without.by_witness)) == (24, 12)
    assert found.changes == [0, 1, 2] * 4
    assert found.held_out == without.held_out == [0, 1, 2]
    # The networks and what is usual of them are the same, and only images are measured.
    for at in range(12):
        for name in (SURPRISAL, DIFFERENCE):
            np.testing.assert_array_equal(found.by_witness[at][name], without.by_witness[at][name])
    assert found.witnesses[1:] == without.witnesses[1:]
    sizes = {"size_px": washer.settings.vqvae.image_size_px, "minimum_area_px": 16}
    _, threshold, scores = found.rule(found.witnesses, options, **sizes)
    assert len(scores) == 12
    assert threshold >= np.float32(np.quantile(scores, 0.95))


def test_images_of_eight_and_sixteen_bits_are_put_on_one_scale() -> None:
    narrow = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    wide = torch.full((1, 4, 4, 3), 65535, dtype=torch.int32)
    normal = NormalImages.of(narrow, wide, names=["a", "b"])
    assert normal.as_numpy().dtype == np.uint16
    assert set(normal.as_numpy().ravel()) == {65535}
