"""A whole evaluation of finished verdicts, which needs no Ray: failures, and the output's lease."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.__main__ import main
from tests.support.labelled_data import write_masks, write_part, write_tests
from vqad.evaluation.job import EvaluateJob
from vqad.on_ray.evaluate import evaluate
from vqad.storage import lease
from vqad.storage.errors import IncompleteError
from vqad.storage.lease import InUseError

NAMES = ("crack/0.png", "crack/1.png", "good/0.png", "good/1.png")
MASKS = ("crack/0_mask.png", "crack/1_mask.png")


def write_category(place: Path, category: str, names: tuple[str, ...] = NAMES) -> None:
    """Test images, masks of all defects, and verdicts: a higher score the earlier the image."""
    images = write_tests(place / "data", names, category=category)
    write_masks(
        place / "data", [each for each in MASKS if each[:7] in str(names)], category=category
    )
    scores = {at: float(len(names) - at) for at in range(len(names))}
    write_part(place / "verdicts", images, 0, scores, category=category)


def job_in(place: Path, **options: Any) -> EvaluateJob:
    return EvaluateJob(
        data=str(place / "data"),
        verdicts=str(place / "verdicts"),
        output=str(place / "output"),
        **options,
    )


def command_in(place: Path) -> list[str]:
    names = ("data", "verdicts", "output")
    return ["evaluate", *(part for name in names for part in (f"--{name}", str(place / name)))]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for category in ("nut", "screw"):
        write_category(tmp_path, category)
    return tmp_path


def test_a_category_that_lacks_a_mask_is_named_and_the_others_are_evaluated(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mask = place / "data" / "nut" / "ground_truth" / "crack" / "1_mask.png"
    mask.unlink()
    assert main(command_in(place)) == 1
    out, err = capfd.readouterr()
    summary = json.loads(out)
    assert list(summary["categories"]) == ["screw"]
    assert summary["mean"] == summary["categories"]["screw"]
    assert summary["categories"]["screw"]["image_auroc"] == 1
    last = err.splitlines()[-1]
    assert last.startswith("vqad evaluate: could not be evaluated: nut: no mask for file://")
    assert "Traceback" not in err
    record = json.loads((place / "output" / "evaluation.json").read_text())
    assert record["failed"] == summary["failed"] == {"nut": last.partition("nut: ")[2]}
    assert "nut could not be evaluated" in (place / "output" / "evaluation.md").read_text()


def test_a_category_without_any_masks_has_no_pixel_metrics_and_is_no_failure(place: Path) -> None:
    masks = place / "data" / "nut" / "ground_truth"
    for path in sorted(masks.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    masks.rmdir()
    found = evaluate(job_in(place), lambda _: None)
    assert found.failed == {}
    nut, screw = (each.metrics for each in found.measured)
    assert (nut.image_auroc, screw.image_auroc) == (1, 1)
    assert nut.pixel_auroc is None
    assert screw.pixel_auroc is not None


def test_a_mask_that_cannot_be_read_fails_its_category_alone(place: Path) -> None:
    (place / "data" / "nut" / "ground_truth" / "crack" / "0_mask.png").write_bytes(b"text")
    found = evaluate(job_in(place), lambda _: None)
    assert [each.category for each in found.measured] == ["screw"]
    assert list(found.failed) == ["nut"]
    assert "crack/0_mask.png is not a readable picture" in found.failed["nut"]


def test_if_no_category_can_be_evaluated_nothing_is_started(place: Path) -> None:
    with pytest.raises(ValueError, match=r"could not be evaluated: a: no tables in .*; b: no tab"):
        evaluate(job_in(place, categories=("a", "b")), lambda _: None)
    assert not (place / "output").exists()


def test_if_all_categories_fail_later_work_had_begun(place: Path) -> None:
    for path in (place / "data").rglob("*_mask.png"):
        path.write_bytes(b"text")
    with pytest.raises(IncompleteError, match=r"could not be evaluated: nut: mask .*; screw: mask"):
        evaluate(job_in(place), lambda _: None)


def test_good_images_alone_give_the_share_of_false_alarms_and_the_reason_for_the_rest(
    tmp_path: Path,
) -> None:
    write_category(tmp_path, "nut", ("OK/0.png", "OK/1.png", "OK/2.png"))
    lines: list[str] = []
    (found,) = evaluate(job_in(tmp_path), lines.append).measured
    assert (found.num_good, found.num_defect) == (3, 0)
    # The threshold of 1.5 is between the scores 3, 2 and 1.
    assert found.metrics.false_alarm_rate == pytest.approx(2 / 3)
    assert found.metrics.image_auroc is None
    (line,) = (each for each in lines if "no defective test images" in each)
    assert "only the share of false alarms is defined" in line


def test_defective_images_alone_are_measured_where_that_is_possible(tmp_path: Path) -> None:
    write_category(tmp_path, "nut", ("crack/0.png", "crack/1.png"))
    lines: list[str] = []
    (found,) = evaluate(job_in(tmp_path), lines.append).measured
    assert found.metrics.false_alarm_rate is None
    assert found.metrics.image_f1 == pytest.approx(2 / 3)
    assert any("no good test images, so image accuracy, image AUROC" in each for each in lines)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed, watched and given up in tenths of their time."""
    for name in ("LIFE_S", "RENEWED_EVERY_S", "LOOKED_AT_EVERY_S"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 20)


def test_two_evaluations_on_one_output_meet_the_lease(
    place: Path, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def try_another(line: str) -> None:
        if not tried:
            tried.append(line)
            capfd.readouterr()
            assert main(command_in(place)) == 2
            out, err = capfd.readouterr()
            assert out == ""
            assert len(err.splitlines()) == 1
            assert err.startswith(f"vqad evaluate: file://{place / 'output'} is in use by run ")

    assert evaluate(job_in(place), try_another).failed == {}
    assert tried
    assert main(command_in(place)) == 0  # the lease was released


def test_an_evaluation_waits_for_no_inspection_on_its_output(
    place: Path, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    # The lease that an inspection holds for the time of its run, see `inspect_archive`.
    with lease.held(str(place / "output"), "night"), pytest.raises(InUseError, match="run night"):
        evaluate(job_in(place), lambda _: None)
