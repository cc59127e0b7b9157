"""Records of fits: read whatever older programs left out, and refused where a value is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.random_detectors import detector_of
from vqad.detection.fit_record import FitRecord
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.training.options import TrainOptions, recorded_options

# As `detector.json` had it before the joined form and the names of runs.
FORMAT_1 = {
    "options": {"category": "washer", "kind": "rotatable_object", "preset": "tiny", "seed": 7},
    "num_images": 24,
    "held_out": ["file:///washers/03.png", "file:///washers/17.png"],
    "held_out_error": 0.0123,
    "codes_used": 12,
    "steps": {"vqvae": 40, "prior": 40},
    "fit_vqvae": {"num_steps": 40, "learning_rate": 0.001},
    "held_out_scores": [1, 2.5],
    "eta_found_by": "given",
    "of_a_program_to_come": True,
}


def load(models: Path, found: dict[str, Any], *, format_version: int = 2) -> Detector:
    """A saved detector whose record has been replaced."""
    version = detector_of().save(str(models))
    path = models / "washer" / version / "detector.json"
    record = json.loads(path.read_text())
    record["format_version"] = format_version
    record["settings"]["found"] = found
    if format_version == 1:
        del record["settings"]["form"], record["settings"]["usual"]
    path.write_text(json.dumps(record))
    return Detector.load(str(models), "washer")


@pytest.mark.parametrize("format_version", [1, 2])
def test_a_record_of_an_older_program_keeps_its_values_and_lacks_the_others(
    tmp_path: Path, format_version: int
) -> None:
    found = load(tmp_path, FORMAT_1, format_version=format_version).settings.found
    assert (found.num_images, found.codes_used, found.held_out_error) == (24, 12, 0.0123)
    assert found.held_out == FORMAT_1["held_out"]
    assert found.steps == {"vqvae": 40, "prior": 40}
    assert (found.held_out_nats, found.run, found.unreadable) == (None, "", [])
    options = recorded_options(found.options, "washer")
    assert options == TrainOptions(
        category="washer", kind="rotatable_object", preset="tiny", seed=7
    )


def test_an_empty_record_loads_and_names_no_options(tmp_path: Path) -> None:
    found = load(tmp_path, {}).settings.found
    assert found == FitRecord()
    message = "the washer detector has no valid record of the options that it was fitted with"
    with pytest.raises(ValueError, match=message):
        recorded_options(found.options, "washer")


def test_a_value_of_the_wrong_type_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"detector\.json, found\.held_out: Input should be"):
        load(tmp_path, {"held_out": 3})
