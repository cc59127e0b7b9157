"""Contact sheets of a night are drawn for every detector that can be saved."""

import cv2
import numpy as np

from tests.support.inspection_by_hand import home, inspect, job, rows
from vqad.detector import Detector
from vqad.inspection.job import InspectJob
from vqad.inspection.run_report import draw_sheet

__all__ = ["home", "job"]


def test_a_sheet_of_a_detector_with_a_threshold_of_zero_is_drawn(job: InspectJob) -> None:
    Detector.load(job.models, "fabric").with_settings(threshold=0.0).save(job.models)
    plan = inspect(job)
    fabric = [row for row in rows(job) if row["category"] == "fabric"]
    assert {row["threshold"] for row in fabric} == {0.0}
    assert {row["verdict"] for row in fabric} >= {"defect"}
    drawn = draw_sheet(fabric[:2], job.models, plan.versions)
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[0] > 2 * 128


def test_a_sheet_whose_images_are_all_gone_is_not_drawn(job: InspectJob) -> None:
    plan = inspect(job)
    fabric = [row for row in rows(job) if row["category"] == "fabric"][:2]
    gone = [row | {"image": f"{row['image']}.gone"} for row in fabric]
    assert draw_sheet(gone, job.models, plan.versions) == b""
