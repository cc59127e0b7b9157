"""From alarms to fewer: inspect, mark images on the page, apply, set a threshold, inspect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.__main__ import main
from tests.support import small_detectors
from tests.support.browser import browser, text
from tests.support.finished_inspection import ON_RAY, inspect, verdicts
from vqad import synthetic
from vqad.detection import calibrate, versions
from vqad.detector import Detector
from vqad.storage import output_layout, promotions

pytestmark = ON_RAY

CATEGORY = "fabric"
NUM_DEFECTS, NUM_FALSE_ALARMS = 5, 3


@pytest.fixture
def places(local_ray: None, tmp_path: Path) -> dict[str, str]:
    """An archive of twenty images, and a detector whose threshold is too low by three images."""
    found = {name: str(tmp_path / name) for name in ("archive", "models", "output")}
    synthetic.draw_archive(
        tmp_path / "archive",
        categories=(CATEGORY,),
        size_px=48,
        num_train=0,
        num_good=12,
        num_defect=8,
    )
    small_detectors.save_detector(found["models"], CATEGORY, found["archive"])
    detector = Detector.load(found["models"], CATEGORY)
    scores = np.sort(detector.settings.found.held_out_scores)[::-1]
    at = NUM_DEFECTS + NUM_FALSE_ALARMS
    assert scores[at - 1] > scores[at]
    assert scores[NUM_DEFECTS - 1] > scores[NUM_DEFECTS]
    threshold = float(np.float32((scores[at - 1] + scores[at]) / 2))
    detector.with_settings(threshold=threshold).save(found["models"])
    return found


def night(places: dict[str, str], **options: Any) -> list[dict[str, Any]]:
    """Inspect, and return the rows with the largest scores first."""
    inspect(**places, num_actors=1, **options)
    return sorted(verdicts(places["output"]), key=lambda row: -row["score"])


def marked(output: str) -> str:
    """Mark the first five cards as defects and the next three as false alarms; the saved file."""
    with browser() as page:
        page.open(f"file://{output_layout.report_page(output)}")
        page.evaluate(
            "document.getElementById('who').value = 'Ada';"
            "document.getElementById('who').dispatchEvent(new Event('change'))"
        )
        for key in "d" * NUM_DEFECTS + "f" * NUM_FALSE_ALARMS:
            page.press("j")
            page.press(key)
        page.evaluate("document.getElementById('save').click()")
        name = text(page, "#said").partition(" as ")[2].removesuffix(".")
        return page.downloaded(name)


def newest(models: str) -> str:
    return versions.newest_version(models, CATEGORY)


def test_three_confirmed_false_alarms_become_normal_and_five_defects_stay(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The maps of random networks are fainter than one grey level, the smallest threshold.
    monkeypatch.setattr(calibrate, "SMALLEST_THRESHOLD", 0.0)
    models, output = places["models"], places["output"]
    before = night(places, report=True)
    alarms = [row for row in before if row["verdict"] == "defect"]
    assert len(alarms) == NUM_DEFECTS + NUM_FALSE_ALARMS
    in_force = promotions.version_in_force(models, CATEGORY)

    file = tmp_path / "reviews.jsonl"
    file.write_text(marked(output))
    where = ["--models", models, "--output", output]
    assert main(["review", "apply", "--reviews", str(file), *where]) == 0

    of_category = ["--models", models, "--category", CATEGORY]
    losing = ["--value", str(alarms[NUM_DEFECTS - 1]["score"])]
    assert main(["threshold", *of_category, *losing]) == 0
    promote = ["models", "promote", *of_category, "--output", output]
    assert main([*promote, "--version", newest(models)]) == 2
    assert promotions.version_in_force(models, CATEGORY) == in_force
    assert main([*promote, "--version", newest(models), "--force"]) == 0
    assert main(["models", "rollback", *of_category]) == 0

    # Twelve normal images and three confirmed false alarms promise one in sixteen.
    assert main(["threshold", *of_category, "--from", output, "--false-alarms", "6.5%"]) == 0
    assert main([*promote, "--version", newest(models)]) == 0
    after = {row["image"]: row["verdict"] for row in night(places, redo="changed")}
    images = [row["image"] for row in alarms]
    assert [after[image] for image in images] == ["defect"] * 5 + ["normal"] * 3
    assert sum(verdict == "defect" for verdict in after.values()) == NUM_DEFECTS
