"""The survey finds which categories can be evaluated before anything is inspected."""

from pathlib import Path

import pytest

from tests.support.labelled_data import write_masks, write_tests
from tests.support.random_detectors import detector_of
from vqad.detection.fit_record import FitRecord
from vqad.evaluation.job import EvaluateJob
from vqad.evaluation.survey import Survey, survey


def found_in(place: Path, *categories: str) -> Survey:
    return survey(
        EvaluateJob(
            data=str(place / "data"),
            models=str(place / "models"),
            output=str(place / "output"),
            categories=categories,
        )
    )


def write_category(place: Path, category: str, *, held_out: str = "train/good/0.png") -> None:
    images = write_tests(place / "data", category=category)
    write_masks(place / "data", ["crack/0_mask.png", "crack/1_mask.png"], category=category)
    image = images[0].replace("/test/crack/0.png", f"/{held_out}").replace("/data/", "/elsewhere/")
    record = FitRecord(held_out=[image])
    detector_of(category=category, found=record).save(str(place / "models"))


def test_all_categories_with_test_images_and_a_detector_are_found(tmp_path: Path) -> None:
    for category in ("nut", "screw"):
        write_category(tmp_path, category)
    write_tests(tmp_path / "data", category="without a detector")
    (tmp_path / "data" / "without tests").mkdir()
    (tmp_path / "data" / "readme.txt").write_text("text")
    found = found_in(tmp_path)
    assert list(found.labelled) == ["nut", "screw"]
    assert found.failed == {}


def test_a_missing_mask_and_a_broken_detector_are_found_before_anything_is_inspected(
    tmp_path: Path,
) -> None:
    for category in ("bolt", "nut", "screw"):
        write_category(tmp_path, category)
    (tmp_path / "data" / "nut" / "ground_truth" / "crack" / "1_mask.png").unlink()
    (weights,) = (tmp_path / "models" / "screw").glob("*/prior.safetensors")
    weights.write_bytes(b"")
    found = found_in(tmp_path)
    assert list(found.labelled) == ["bolt"]
    assert found.failed["nut"].startswith("no mask for ")
    assert "does not match its recorded hash" in found.failed["screw"]
    assert not (tmp_path / "output").exists()


def test_a_detector_is_not_measured_on_images_that_it_was_trained_on(tmp_path: Path) -> None:
    write_category(tmp_path, "nut", held_out="test/good/0.png")
    message = r"could not be evaluated: nut: the detector was trained on 1 or more of the test imag"
    with pytest.raises(ValueError, match=message):
        found_in(tmp_path)


def test_without_any_category_it_is_said_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "data" / "nut").mkdir(parents=True)
    message = r"no category of .*/data has both test images, such as DATA/CATEGORY/test, and a det"
    with pytest.raises(ValueError, match=message):
        found_in(tmp_path)
    with pytest.raises(ValueError, match="could not be evaluated: nut: no detector for category n"):
        found_in(tmp_path, "nut")
