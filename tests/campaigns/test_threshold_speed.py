"""How long does `vqad threshold --apply` take on 10,000 rows with maps of 256x256 pixels?

    pytest -m slow -s tests/campaigns/test_threshold_speed.py

It needs 3 GB of disk, and a machine that does nothing else: the bound is for two cores.
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tests.support.stored_rows import stored_row
from tests.training.test_full_form import fitted_washer
from vqad import tables
from vqad.detection import area_score
from vqad.detector import Detector
from vqad.inspection import sink
from vqad.inspection.set_threshold import set_threshold
from vqad.inspection.threshold_job import ThresholdJob

pytestmark = pytest.mark.slow

NUM_PARTS, ROWS_PER_PART, SIZE_PX = 79, 128, 256
MOST_SECONDS = 30


def test_ten_thousand_rows_take_less_than_half_a_minute(tmp_path: Path) -> None:
    models, output = str(tmp_path / "models"), str(tmp_path / "output")
    fitted_washer().save(models)
    detector = Detector.load(models, "washer")
    _write_night(output, detector)
    wanted = ThresholdJob(
        models=models, category="washer", per_night=20, nights=(output,), apply=output
    )
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    done = set_threshold(wanted, lambda _: None)
    seconds, cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
    sys.stdout.write(f"\n{done['applied']}: {seconds:.1f} s, {cpu_s:.1f} s of CPUs\n")
    assert done["applied"]["updated"] == NUM_PARTS * ROWS_PER_PART
    assert seconds < MOST_SECONDS


def _write_night(output: str, detector: Detector) -> None:
    rng = np.random.default_rng(0)
    for part in range(NUM_PARTS):
        # As many alarms as a threshold for 5 % of false alarms lets through.
        scores = rng.normal(detector.settings.threshold - 2, 1.2, ROWS_PER_PART)
        fields = rng.normal(0.3, 0.1, (ROWS_PER_PART, 64, 64)).astype(np.float32)
        rows, maps = [], []
        for at, each in enumerate(np.float32(scores)):
            image = f"file:///night/{part:03}-{at:03}.png"
            wide = cv2.resize(fields[at], (SIZE_PX, SIZE_PX)) * np.float32(each / 0.7)
            found = _row(image, float(each), wide, detector)
            rows.append(found[0])
            maps.append(found[1])
        sink.write_part(
            output,
            pa.Table.from_pylist(rows, schema=tables.VERDICTS),
            pa.Table.from_pylist(maps, schema=tables.MAPS),
        )


def _row(image: str, value: float, wide: np.ndarray, detector: Detector) -> tuple[dict, dict]:
    area_px = detector.settings.minimum_area_px
    anomaly_map = area_score.agreeing_map(wide, image_score=value, minimum_area_px=area_px)
    return stored_row(image, value, anomaly_map, detector, source_px=900, run="night")
