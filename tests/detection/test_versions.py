"""Versions of a detector: those saved, the one in force, and what is refused."""

import json
from pathlib import Path

import pytest

from tests.support.random_detectors import detector_of
from vqad.detection import versions
from vqad.detection.fit_record import FitRecord, ThresholdRecord
from vqad.detection.saved_categories import saved_categories
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.storage import promotions
from vqad.storage.promotions import InForceError

_VALUE = ThresholdRecord(rule="value", source=[], num_scores=0, from_version="v1")


def promote(models: str, version: str) -> str:
    """Promote a version of washers; returns the one that is then in force."""
    versions.promote(models, "washer", version, who="ann@line", why="fewer false alarms")
    return promotions.version_in_force(models, "washer")


def test_a_detector_saved_without_promotion_is_not_in_force(models: str, saved: Path) -> None:
    newer = detector_of(seed=1).save(models, promote=False)
    assert Detector.load(models, "washer").version == saved.name
    assert versions.version_names(models, "washer") == [saved.name, newer]
    assert versions.newest_version(models, "washer") == newer
    assert promote(models, newer) == Detector.load(models, "washer").version == newer


def test_saving_is_logged_as_a_promotion_and_can_be_rolled_back(models: str, saved: Path) -> None:
    detector_of(seed=1).save(models, why="vqad train, run monday")
    log = promotions.history(models, "washer")
    assert [each.why for each in log] == ["saved", "vqad train, run monday"]
    change = versions.rollback(models, "washer", who="ann@line", why="too many alarms")
    assert (change.action, change.to_version) == ("rollback", saved.name)
    assert Detector.load(models, "washer").version == saved.name
    with pytest.raises(InForceError, match="no version that was in force before"):
        versions.rollback(models, "washer", who="ann@line", why="")


def test_a_version_that_is_not_there_is_refused_with_those_that_are(
    models: str, saved: Path
) -> None:
    with pytest.raises(DetectorError, match=f"no version 2026-1 .*there are: {saved.name}"):
        promote(models, "2026-1")
    with pytest.raises(DetectorError, match=r"lid has no version 2026-1 .*there are: none"):
        versions.promote(models, "lid", "2026-1", who="ann", why="")


@pytest.mark.parametrize("file", ["vqvae.safetensors", "prior.safetensors", "detector.json"])
def test_a_version_that_does_not_load_is_neither_promoted_nor_rolled_back_to(
    models: str, saved: Path, file: str
) -> None:
    newer = detector_of(seed=1).save(models)
    broken = saved / file
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(DetectorError, match=file):
        promote(models, saved.name)
    with pytest.raises(DetectorError, match=file):
        versions.rollback(models, "washer", who="ann", why="")
    assert promotions.version_in_force(models, "washer") == newer
    assert len(promotions.history(models, "washer")) == 2


def test_a_folder_without_a_record_is_no_version(models: str, saved: Path) -> None:
    broken_off = saved.with_name("20990101T000000Z-00000000")
    broken_off.mkdir()
    (broken_off / "vqvae.safetensors").write_bytes(b"half")
    assert versions.version_names(models, "washer") == [saved.name]


def test_every_saved_version_is_listed_with_how_it_came_about(models: str, saved: Path) -> None:
    newer = detector_of(seed=1).save(models)
    (saved / "detector.json").write_text("{}")
    old, new = versions.saved_versions(models, "washer")
    assert (old.version, old.in_force, old.settings) == (saved.name, False, None)
    assert "format version None" in old.made_by
    assert (new.version, new.in_force, new.made_by) == (newer, True, "saved")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (FitRecord(run="monday"), "trained by monday"),
        (FitRecord(run="monday", calibrated_from="v1"), "calibrated from v1"),
        (FitRecord(run="monday", threshold=_VALUE), "other threshold of v1 (value)"),
    ],
)
def test_a_version_says_how_it_came_about(models: str, record: FitRecord, said: str) -> None:
    detector_of().with_settings(found=record).save(models)
    (saved,) = versions.saved_versions(models, "washer")
    assert saved.made_by == said


def test_categories_without_a_version_in_force_are_listed_too(models: str, saved: Path) -> None:
    detector_of(category="metal/nut").save(models, promote=False)
    Path(models, ".runs", "run").mkdir(parents=True)
    Path(models, "empty").mkdir()
    assert saved_categories(models) == ["washer"]
    assert versions.categories(models) == ["metal/nut", "washer"]
    record = json.loads((saved / "detector.json").read_text())
    (saved / "detector.json").write_text(json.dumps(record | {"settings": None}))
    assert versions.categories(models) == ["metal/nut", "washer"]


def test_the_same_weights_saved_twice_in_a_second_are_two_versions(models: str) -> None:
    detector = detector_of()
    saved = [detector.with_settings(threshold=t).save(models) for t in (1.0, 2.0)]
    assert versions.version_names(models, "washer") == saved
    assert [Detector.load(models, "washer", version=v).settings.threshold for v in saved] == [1, 2]
