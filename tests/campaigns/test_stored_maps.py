"""Bytes of maps and metrics, with the precision of stored maps and without rounding.

A campaign, run by hand on detectors and labelled images in MVTec AD's layout:
`VQAD_MODELS=... VQAD_DATA=... pytest -m slow tests/campaigns/test_stored_maps.py -s`.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy import ndarray

from vqad import tables
from vqad.benchmarks.inspection import read_images
from vqad.detection.saved_categories import saved_categories
from vqad.detection.stored_map import as_stored
from vqad.detector import Detector
from vqad.evaluation import metrics
from vqad.evaluation.canvas import Canvas
from vqad.evaluation.ground_truth import read_truth
from vqad.evaluation.labelled_images import LabelledImages, labelled_images
from vqad.inspection import sink
from vqad.inspection.array_columns import table_of

pytestmark = pytest.mark.slow
MODELS, DATA = (os.environ.get(name, "") for name in ("VQAD_MODELS", "VQAD_DATA"))
UNIT, BATCH = 64, 16  # images


def judged(detector: Detector, labelled: LabelledImages) -> tuple[list[float], ndarray]:
    """Scores and maps that are not rounded."""
    scores, maps = [], []
    for at in range(0, len(labelled.images), BATCH):
        found = detector.evidence(read_images(detector, labelled.images[at : at + BATCH]))
        with torch.inference_mode():
            some = detector.judged(found, detector.witness_fields(found))
        scores += some[0]
        maps += some[1]
    return scores, np.stack(maps)


def rows_of(maps: ndarray) -> pa.Table:
    height_px, width_px = maps.shape[1:]
    sizes = {"map_height_px": height_px, "map_width_px": width_px}
    texts = {"image": "", "category": "", "model_version": ""}
    return table_of([{**texts, **sizes, "anomaly_map": each} for each in maps], tables.MAPS)


def kilobytes(maps: ndarray, folder: Path, *, as_before: bool) -> float:
    """Of a map in parts of `UNIT` images."""
    total = 0
    for at in range(0, len(maps), UNIT):
        part = folder / "part.parquet"
        table = rows_of(maps[at : at + UNIT])
        if as_before:
            pq.write_table(table, part, compression="zstd")
        else:
            sink.write_table(str(part), table)
        total += part.stat().st_size
    return total / len(maps) / 1000


@pytest.mark.skipif(not (MODELS and DATA), reason="needs VQAD_MODELS and VQAD_DATA")
def test_rounding_changes_no_metric_by_a_thousandth(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for category in sorted(saved_categories(MODELS)):
        detector, labelled = Detector.load(MODELS, category), labelled_images(DATA, category)
        images = [each.image for each in labelled.images]
        scores, maps = judged(detector, labelled)
        stored = np.stack(
            [as_stored(each, image_score=one) for each, one in zip(maps, scores, strict=True)]
        )
        canvas = Canvas(shapes=[each.shape for each in maps], counted=None)
        truth = read_truth(labelled, images, canvas)
        before, after = (
            vars(
                metrics.evaluate(
                    np.array(scores),
                    truth.is_defect,
                    some,
                    truth.masks,
                    threshold=detector.settings.threshold,
                )
            )
            for some in (maps, stored)
        )
        change = {name: after[name] - value for name, value in before.items() if value is not None}
        sizes = (
            kilobytes(maps, tmp_path, as_before=True),
            kilobytes(stored, tmp_path, as_before=False),
        )
        largest = max(change, key=lambda name: abs(change[name]))
        sys.stderr.write(
            f"{category}, {len(images)} images: {sizes[0]:.1f} kB, now {sizes[1]:.1f} kB; largest "
            f"change {change[largest]:+.4f} of {largest}, "
            f"pixel_auroc {change['pixel_auroc']:+.5f}, au_pro {change['au_pro']:+.5f}\n"
        )
        assert abs(change[largest]) < 1e-3
