"""The form full with each witness alone and each left out, from one evidence of each image."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evaluation.test_measure import measured_of
from tests.training.test_full_form import PIXELS, broken, fitted_washer, images
from tests.training.test_segmenter import SMALL
from vqad.detection.area_score import area_score, usual_areas
from vqad.detection.stored_map import as_stored
from vqad.detection.witnesses import WEIGHTS_WITH_SEGMENTER, Witness, join_fields
from vqad.detector import Detector
from vqad.evaluation import methods, witness_ablations
from vqad.evaluation.markdown import text as markdown
from vqad.evaluation.methods import WitnessMethod, witness_method
from vqad.evaluation.witness_ablations import THRESHOLDS, is_variant, subsets
from vqad.training.presets import PRESETS


def save_with_images(detector: Detector, home: Path) -> Detector:
    """Save a detector beside its normal images; its record names them where they are."""
    folder = home / "data" / "washer" / "train" / "good"
    folder.mkdir(parents=True)
    for number, pixels in enumerate(PIXELS):
        assert cv2.imwrite(str(folder / f"{number:02}.png"), pixels[..., ::-1])
    held_out = [
        (folder / each.rpartition("/")[2]).as_uri() for each in detector.settings.found.held_out
    ]
    found = replace(detector.settings.found, held_out=held_out)
    placed = detector.with_settings(found=found)
    placed.save(str(home / "models"))
    return placed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("witnesses")
    save_with_images(fitted_washer(), place)
    return place


@pytest.fixture(scope="module")
def washer(home: Path) -> Detector:
    return Detector.load(str(home / "models"), "washer")


@pytest.fixture(scope="module")
def method(home: Path, washer: Detector) -> WitnessMethod:
    """All variants, and one more with all witnesses, which is the detector itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            witness_ablations, "subsets", lambda some: {**subsets(some), "all": tuple(some)}
        )
        # As at the fit, whose preset had no harmless copies and a smaller segmenter.
        patch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], num_copies=0, segmenter=SMALL))
        places = [str(home / name) for name in ("models", "data")]
        return witness_method(places[0], "washer", washer.version, places[1])


def test_each_witness_is_alone_once_and_left_out_once_however_many_there_are() -> None:
    values = {"mean": 0.0, "deviation": 1.0, "largest": 1.0}
    many = [Witness(name=name, weight=0.25, **values) for name in "abcd"]
    found = subsets(many)
    named = {name: "".join(one.name for one in some) for name, some in found.items()}
    assert named == {
        **{f"{name} alone": name for name in "abcd"},
        "without a": "bcd",
        "without b": "acd",
        "without c": "abd",
        "without d": "abc",
    }
    assert list(subsets(many[:2])) == ["a alone", "b alone"]
    assert subsets(many[:1]) == {}
    assert all(is_variant(name) for name in found)


def test_all_witnesses_together_are_the_detector_itself(
    washer: Detector, method: WitnessMethod
) -> None:
    settings, found = washer.settings, method.variants["all"]
    assert found.threshold == pytest.approx(settings.threshold, rel=1e-6)
    as_fitted = replace(found, rule=settings.area_rule, threshold=settings.threshold)
    result = witness_ablations.inspect(washer, {"all": as_fitted}, images(broken()))["all"]
    expected = washer.inspect(images(broken()))
    assert result.scores == expected.scores
    stored = [
        as_stored(each, image_score=value)
        for each, value in zip(result.maps, result.scores, strict=True)
    ]
    np.testing.assert_array_equal(stored, expected.anomaly_maps)


def test_a_witness_alone_is_scored_by_its_own_field(
    washer: Detector, method: WitnessMethod
) -> None:
    batch, variants = images(broken()), method.variants
    fields = washer.witness_fields(washer.evidence(batch))
    found = witness_ablations.inspect(washer, variants, batch)
    for witness in washer.settings.witnesses:
        variant = variants[f"{witness.name} alone"]
        assert variant.witnesses == (witness,)
        alone = [area_score(join_fields(each, [witness]), variant.rule.usual) for each in fields]
        assert found[f"{witness.name} alone"].scores == alone
    # Red squares on washers: what resampling changes does not find them all, local statistics do.
    best = found["local statistics alone"]
    assert min(best.scores) > variants["local statistics alone"].threshold


def test_the_weight_of_a_witness_alone_changes_no_verdict() -> None:
    rng = np.random.default_rng(0)
    fields = list(rng.normal(0, 1, (9, 16, 16)).astype(np.float32))
    halves = [np.float32(0.5) * each for each in fields]
    scores = [area_score(each, usual_areas(fields)) for each in fields]
    assert [area_score(each, usual_areas(halves)) for each in halves] == pytest.approx(scores)


def test_the_threshold_rests_on_statistics_that_did_not_see_the_image(
    home: Path, washer: Detector, method: WitnessMethod
) -> None:
    name = "local statistics alone"
    variant = method.variants[name]
    seen = witness_ablations.inspect(washer, {name: variant}, images(PIXELS))[name]
    # The detector's own statistics saw these images: their scores would make it far too low.
    assert np.quantile(seen.scores, 0.95) < variant.threshold


def test_the_evidence_of_a_batch_is_computed_once(
    washer: Detector, method: WitnessMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    evidence = Detector.evidence
    monkeypatch.setattr(
        Detector, "evidence", lambda self, *batch: calls.append(batch) or evidence(self, *batch)
    )
    witness_ablations.inspect(washer, method.variants, images(broken()))
    assert len(calls) == 1


def test_an_evaluation_applies_them_to_files(
    home: Path, washer: Detector, method: WitnessMethod
) -> None:
    assert isinstance(method, methods.Method)
    assert list(method.names) == [*subsets(washer.settings.witnesses), "all"]
    assert len(method.names) == 2 * len(WEIGHTS_WITH_SEGMENTER) + 1
    assert list(method.thresholds()) == list(method.names)
    files = sorted((home / "data" / "washer" / "train" / "good").iterdir())[:3]
    found = methods.apply(method, [each.as_uri() for each in files], True)
    expected = witness_ablations.inspect(washer, method.variants, images(PIXELS[:3]))
    for name, (scores, maps) in zip(method.names, found, strict=True):
        assert scores.tolist() == pytest.approx(expected[name].scores, abs=1e-3)
        np.testing.assert_allclose(maps, expected[name].maps, atol=1e-3)


def test_the_markdown_has_them_as_rows_beside_the_detector_of_their_categories() -> None:
    names = ["surprisal alone", "without surprisal"]
    rows = [measured_of(category=each) for each in ("nut", "screw")]
    rows += [measured_of(name, category="nut") for name in names]
    lines = markdown(rows, about=[]).splitlines()
    at = lines.index("## Each witness of the form full alone, and each left out")
    assert lines[at + 2] == THRESHOLDS
    named = ["|".join(each.split("|")[:3]).strip() for each in lines[at + 6 : at + 12]]
    methods_there = ["resampling", *names]
    assert named == [f"| {each} | {one}" for each in ("nut", "mean") for one in methods_there]
    assert "## Each witness" not in markdown(rows[:2], about=[])
