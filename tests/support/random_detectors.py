"""A detector of random networks whose codes change, and ways to tamper with a saved one."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.test_vqvae import CONFIG, model_of
from tests.training.test_networks import PRIOR, drawn_pixels
from vqad.detection.evidence import Inspection
from vqad.detection.fit_record import FitRecord
from vqad.detection.settings import Settings
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import ResampleOptions


def pictures(num: int = 8) -> Tensor:
    return to_images(to_tensor(drawn_pixels(num)))


def detector_of(*, eta: float = 0.02, seed: int = 0, **changes: Any) -> Detector:
    """A detector of nothing in particular, with a prior of strong opinions, so codes change."""
    vqvae = model_of(CONFIG, seed)
    prior = PixelSNAIL(PRIOR)
    with torch.no_grad():
        vqvae.codebook.start(vqvae.encoder(pictures() * 2 - 1), torch.Generator().manual_seed(0))
        # Latents of random weights lie close together; the decoder shall see them apart.
        vqvae.decoder[0].weight.mul_(30)
        prior.output[-1].weight.mul_(60)
        prior.embedding.weight.mul_(3)
    settings = Settings(
        **{
            "category": "washer",
            "kind": "rotatable_object",
            "vqvae": CONFIG,
            "prior": PRIOR,
            "resample": ResampleOptions(eta=eta),
            "threshold": 2.5,
            "minimum_area_px": 4,
            "found": FitRecord(held_out=["a.png"], options={"seed": 0}),
            **changes,
        }
    )
    return Detector(vqvae, prior, settings)


def assert_equal_bits(one: Inspection, other: Inspection) -> None:
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.restored_codes, other.restored_codes)
    assert (one.scores, one.verdicts) == (other.scores, other.verdicts)
    np.testing.assert_array_equal(one.anomaly_maps, other.anomaly_maps)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((folder / "detector.json").read_text())
    change(record)
    (folder / "detector.json").write_text(json.dumps(record))


def replace_weights(folder: Path, name: str, data: bytes, *, recorded: bool) -> None:
    (folder / name).write_bytes(data)
    if recorded:
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        rewrite(folder, lambda record: record["files"].update({name: entry}))


def assert_refused(models: str, message: str, **which: str) -> None:
    with pytest.raises(DetectorError, match=re.escape(message)):
        Detector.load(models, which.get("category", "washer"), version=which.get("version", ""))
