"""Versions of one fit have the same scores and maps, and other thresholds."""

from dataclasses import replace
from pathlib import Path

from tests.support.random_detectors import detector_of, rewrite
from tests.training.test_full_form import fitted_washer
from vqad.detection.fit_record import FitRecord
from vqad.detection.same_fit import have_same_scores, same_fit
from vqad.model.resample import ResampleOptions


def test_versions_with_another_threshold_and_record_are_of_one_fit(tmp_path: Path) -> None:
    models, detector = str(tmp_path), detector_of()
    one = detector.save(models)
    other = detector.with_settings(threshold=9.0, found=FitRecord(run="tuesday")).save(models)
    changed = detector.with_settings(resample=ResampleOptions(eta=0.1)).save(models)
    fitted_again = detector_of(seed=1).save(models)
    found = same_fit(models, "washer", one)
    assert (found.version, found.versions) == (one, (one, other))
    assert have_same_scores(models, "washer", one, other)
    for another in (changed, fitted_again, "20260101T000000Z-00000000"):
        assert not have_same_scores(models, "washer", one, another)


def test_a_broken_version_is_of_no_fit(tmp_path: Path) -> None:
    models, detector = str(tmp_path), detector_of()
    one = detector.save(models)
    broken = detector.with_settings(threshold=9.0).save(models)
    rewrite(tmp_path / "washer" / broken, lambda record: record.pop("files"))
    assert same_fit(models, "washer", one).versions == (one,)
    assert not have_same_scores(models, "washer", one, broken)


def test_another_scale_of_the_map_changes_no_score_and_is_of_another_fit(tmp_path: Path) -> None:
    models, detector = str(tmp_path), fitted_washer()
    rule = detector.settings.area_rule
    assert rule is not None
    one = detector.save(models)
    other = replace(rule, scale=2 * rule.scale, scale_above=3 * rule.scale_above)
    scaled = detector.with_settings(area_rule=other).save(models)
    assert have_same_scores(models, "washer", one, scaled)
    assert same_fit(models, "washer", one).versions == (one,)
