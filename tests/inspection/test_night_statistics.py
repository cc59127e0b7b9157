"""The statistics of a night are those of its images, whatever units of work they came in."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.inspection_by_hand import (
    again,
    decoded,
    home,
    inspect,
    inspector_of,
    job,
    make_plan,
    rows,
)
from vqad.detector import Detector
from vqad.images import decoding
from vqad.images.appearance import appearance
from vqad.images.tensors import to_images, to_tensor
from vqad.inspection import run_report, stages
from vqad.inspection.job import InspectJob
from vqad.inspection.summary import InspectSummary

__all__ = ["home", "job"]


def summary_of(job: InspectJob, *, num_rows: int = 3) -> InspectSummary:
    plan = make_plan(job)
    inspector = inspector_of(job, plan)
    summary = InspectSummary(run=plan.run, versions=plan.versions)
    for unit in decoded(job, plan, num_rows):
        written = stages.write(
            inspector.inspect(unit), output=job.output, version=plan.ledger.version
        )
        summary.add(written, num_most_severe=0)
    return summary


def test_they_are_those_of_the_images_themselves(job: InspectJob) -> None:
    found = summary_of(job).statistics["fabric"].record()
    files = sorted(Path(job.archive, "fabric/test").rglob("*.png"))
    pixels = [decoding.decode(each.read_bytes(), size_px=32).pixels for each in files]
    batch = to_images(to_tensor(np.stack(pixels)))
    looks = appearance(batch)
    assert (found["images"], found["rejects"]) == (8, 0)
    for name in ("brightness", "contrast", "sharpness"):
        values = getattr(looks, name)
        assert found[name]["mean"] == pytest.approx(values.mean(), rel=1e-4)
        low, high = np.quantile(values, (0.05, 0.95))
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high), rel=1e-4)
        assert found[name]["deviation"] == pytest.approx(values.std(ddof=1), rel=1e-3)
    inspected = Detector.load(job.models, "fabric").inspect(batch)
    counts = np.bincount(inspected.codes.numpy().ravel(), minlength=16)
    assert found["code_counts"] == counts.tolist()
    scores = [row["score"] for row in rows(job) if row["category"] == "fabric"]
    assert found["score_quantiles"]["0.5"] == pytest.approx(np.median(scores), abs=1e-5)
    assert found["score_quantiles"]["1"] == pytest.approx(max(scores), abs=1e-5)
    assert found["defects"] == sum(score > found["threshold"] for score in scores)


def test_units_of_other_sizes_give_the_same(job: InspectJob, tmp_path: Path) -> None:
    one = summary_of(job).statistics["washer"].record()
    other = again(job, output=str(tmp_path / "other"))
    two = summary_of(other, num_rows=5).statistics["washer"].record()
    assert one["code_counts"] == two["code_counts"]
    assert one["brightness"] == pytest.approx(two["brightness"], rel=1e-5)


def test_a_run_that_goes_on_describes_the_images_that_it_inspects(job: InspectJob) -> None:
    """A killed run leaves rows behind; they are not counted again, nor are those of a repeat."""
    inspect(job, most_units=2)
    left = summary_of(job)
    assert left.images == 16 - 6
    assert sum(each.record()["images"] for each in left.statistics.values()) == left.images
    assert summary_of(job).statistics == {}


def test_a_reject_has_no_part_in_what_images_look_like(job: InspectJob) -> None:
    before = summary_of(job).statistics["fabric"].record()
    Path(job.archive, "fabric/test/empty.png").touch()
    after = summary_of(again(job, redo="all")).statistics["fabric"].record()
    assert (after["images"], after["rejects"]) == (9, 1)
    assert after["brightness"] == pytest.approx(before["brightness"], rel=1e-5)
    for each in Path(job.archive, "fabric").rglob("*.png"):
        each.write_bytes(b"")
    alone = summary_of(again(job, redo="all")).statistics["fabric"].record()
    assert alone == {"images": 9, "rejects": 9, "defects": 0}


def test_a_histogram_is_one_line_of_run_json(job: InspectJob) -> None:
    summary = summary_of(job)
    run_report.write_run(job, summary)
    text = Path(job.output, "run.json").read_text()
    found = json.loads(text)["statistics"]["fabric"]
    assert found == summary.statistics["fabric"].record()
    line = next(each for each in text.splitlines() if "code_counts" in each)
    assert line.count(",") >= 15
