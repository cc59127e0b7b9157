"""Two weeks of drawn nights in folders by date, three of them not like the others."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from tests.support import small_detectors
from vqad import synthetic
from vqad.detection.fit_record import FitRecord
from vqad.detector import Detector
from vqad.images.tensors import to_images, to_tensor
from vqad.inspection.job import InspectJob
from vqad.training import normal_statistics

CATEGORY: Final = "washer"
NUM_NIGHTS: Final = 14
NUM_IMAGES: Final = 60
SIZE_PX: Final = 48
# By the number of the night, from 1.
DIM, DEFOCUSED, MIXED = 9, 12, 13
UNUSUAL: Final = (DIM, DEFOCUSED, MIXED)
_FIRST: Final = date(2026, 11, 2)
_NUM_TRAINING: Final = 48
_NUM_HELD_OUT: Final = 24


def dated(number: int) -> str:
    """The folder of a night, as `date +%F` writes it."""
    return (_FIRST + timedelta(days=number - 1)).isoformat()


def job_of(home: Path, number: int) -> InspectJob:
    """The inspection of a night, as cluster/nightly.yaml has it."""
    return InspectJob(
        archive=str(home / dated(number)),
        models=str(home / "models"),
        output=str(home / "inspected" / dated(number)),
        maps="defect",
    )


def draw(home: Path, number: int) -> None:
    """Write the images of one night."""
    rng = np.random.default_rng([number, 7])
    light = 1 + rng.normal(0, 0.004)  # lamps are never quite the same
    folder = home / dated(number) / CATEGORY
    folder.mkdir(parents=True)
    for at in range(NUM_IMAGES):
        is_other = number == MIXED and at % 10 == 0
        picture = synthetic.draw("fabric" if is_other else CATEGORY, size_px=SIZE_PX, rng=rng)
        if number == DEFOCUSED:
            picture = cv2.GaussianBlur(picture, (0, 0), 0.8)
        gain = light * (0.9 if number == DIM else 1)
        pixels = np.clip(np.round(picture * gain), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{at:03}.png"), pixels[..., ::-1])


def save_detector(home: Path) -> None:
    """Save a detector of random networks, with what a training records of its normal images."""
    models = str(home / "models")
    small_detectors.draw(home / "data", (CATEGORY,))
    small_detectors.save_detector(models, CATEGORY, str(home / "data"))
    rng = np.random.default_rng(5)
    size = (small_detectors.SIZE_PX,) * 2
    drawn = [synthetic.draw(CATEGORY, size_px=SIZE_PX, rng=rng) for _ in range(_NUM_TRAINING)]
    small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in drawn]
    pixels = to_tensor(np.stack(small))
    held_out, others = pixels[:_NUM_HELD_OUT], pixels[_NUM_HELD_OUT:]
    detector = Detector.load(models, CATEGORY)
    scores = detector.inspect(to_images(held_out)).scores
    normal = normal_statistics.measure(detector.vqvae, held_out, others, seed=0)
    found = replace(FitRecord(), normal=normal, held_out_scores=scores)
    threshold = float(np.float32(1.2 * max(scores)))
    detector.with_settings(found=found, threshold=threshold).save(models)
