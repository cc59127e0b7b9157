"""CPU time of all that an inspection does beside its networks, stage by stage.

A campaign, run by hand: `pytest -o addopts= tests/campaigns/test_time_between_networks.py -s`
prints milliseconds an image; without these options the tests' checks of shapes are timed too.
Images are decoded beforehand, and the detector returns ready maps.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from vqad import tables
from vqad.benchmarks.inspection import RANDOM, random_detector
from vqad.detection.evidence import Inspection
from vqad.images import decoding
from vqad.images.decoding import Decoded
from vqad.images.placement import ImageForm
from vqad.inspection import stages
from vqad.inspection.inspector import Inspector, InspectorOptions
from vqad.inspection.plan import units as units_of
from vqad.inspection.work import TODO
from vqad.on_ray import units

pytestmark = pytest.mark.slow
NUM_IMAGES, UNIT, BATCH, SIZE_PX = 400, 50, 16, 256
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
MAP = RNG.normal(3, 1, (SIZE_PX, SIZE_PX)).astype(np.float32).clip(0)


def listed(folder: Path) -> pa.Table:
    """Small files: what reading large ones costs depends on the disk."""
    rows = []
    for number in range(NUM_IMAGES):
        path = folder / f"{number:04}.png"
        path.write_bytes(b"not read")
        rows.append({"image": path.as_uri(), "category": RANDOM, "source_etag": "", "part": ""})
    return pa.Table.from_pylist([row | {"source_bytes": 8} for row in rows], schema=TODO)


def inspect(batch: Any, *_: Any) -> Inspection:
    num, codes = len(batch), torch.zeros(len(batch), 32, 32, dtype=torch.int64)
    return Inspection(
        verdicts=["normal"] * num,
        scores=[3.0] * num,
        p_values=[None] * num,
        shares=[{}] * num,
        codes_changed=[0] * num,
        anomaly_maps=[MAP] * num,
        codes=codes,
        restored_codes=codes,
    )


def inspector() -> Inspector:
    detector = random_detector("laptop")
    detector.inspect = inspect  # type: ignore[method-assign]
    options = InspectorOptions(
        models="", versions={RANDOM: ""}, run="", batch_size=BATCH, maps="all", num_threads=1
    )
    found = Inspector(options)
    found.detectors.loaded[RANDOM] = detector
    return found


def test_milliseconds_of_each_stage_beside_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    decoded = Decoded(pixels=PIXELS, source_width_px=SIZE_PX, source_height_px=SIZE_PX)
    monkeypatch.setattr(decoding, "decode_as", lambda *_, **__: decoded)
    seconds = Counter[str]()

    def timed(name: str, stage: Callable[..., Any], *given: Any, **options: Any) -> Any:
        start_s = time.process_time()
        result = stage(*given, **options)
        seconds[name] += time.process_time() - start_s
        return result

    def sent(unit: pa.Table) -> pa.Table:
        return next(units.unpack(units.pack(unit)))

    ours, forms = inspector(), {RANDOM: ImageForm(size_px=SIZE_PX)}
    writing = {"output": str(tmp_path / "output"), "version": tables.VERDICTS_VERSION}
    for unit in units_of(listed(tmp_path), UNIT):
        unit = timed("fetch and make the table", stages.decode, unit, forms=forms)
        unit = timed("pack and unpack", sent, unit)
        unit = timed("tensors, appearance and rows", ours.inspect, unit)
        unit = timed("pack and unpack", sent, unit)
        timed("write", stages.write, unit, **writing)
    for name, spent_s in [*seconds.items(), ("all", seconds.total())]:
        sys.stderr.write(f"{name}: {spent_s / NUM_IMAGES * 1000:.2f} ms an image\n")
