"""Images of a hundred megapixels: the memory of one inspection, and of a night of them.

    pytest -m slow -s tests/campaigns/test_large_images.py

Takes about half an hour, and 1 GB in the temporary folder. The detector has random networks: memory
is what is measured. `VQAD_LARGE_IMAGES` sets the number of images of the night.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.campaigns.campaign import say
from tests.support import small_detectors
from vqad.detector import Detector
from vqad.images.tiles import Tiling
from vqad.synthetic import draw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SIDE_PX = 10_000
NUM_IMAGES = int(os.environ.get("VQAD_LARGE_IMAGES", "200"))
MOST_BYTES = 1.5 * 2**30  # beyond the detector
MOST_GROWTH_BYTES = 100 * 2**20  # over the second half of a night

# Runs in a process of its own, so that its peak is that of the inspections alone.
PROGRAM = """
import json, resource, sys
from pathlib import Path
import pyarrow as pa
from tests.support.inspection_by_hand import inspector_of, job_at
from vqad.inspection import stages
from vqad.inspection.plan import make_plan, units

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

job = job_at(Path(sys.argv[1]))
plan = make_plan(job)
inspector = inspector_of(job, plan)
inspector.detectors.get("fabric")
peaks, verdicts = [peak_bytes()], []
for unit in units(plan.todo, 128, plan.forms):
    inspected = inspector.inspect(stages.decode(unit, forms=plan.forms))
    stages.write(inspected, output=job.output, version=plan.ledger.version)
    verdicts += inspected["verdict"].to_pylist()
    peaks.append(peak_bytes())
    print(len(verdicts), peaks[-1] >> 20, "MiB", file=sys.stderr, flush=True)
print(json.dumps({"peaks": peaks, "verdicts": verdicts}))
"""


def home_of(folder: Path, tiling: Tiling, num_images: int) -> Path:
    """A detector with tiles, and an archive of links to one large image."""
    small_detectors.draw(folder / "drawn", ("fabric",))
    models, images = str(folder / "models"), folder / "archive" / "fabric"
    small_detectors.save_detector(models, "fabric", str(folder / "drawn"))
    Detector.load(models, "fabric").with_settings(tiling=tiling).save(models)
    images.mkdir(parents=True)
    draw_large(images / "0.png")
    for number in range(1, num_images):
        (images / f"{number}.png").hardlink_to(images / "0.png")
    return folder


def draw_large(path: Path) -> None:
    patch = draw("fabric", size_px=1000, rng=np.random.default_rng(0))
    picture = np.tile(patch, (SIDE_PX // 1000, SIDE_PX // 1000, 1))
    cv2.line(picture, (100, 200), (9000, 7000), (0, 0, 255), 40)
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])


# Of 512 px, an image has 484 tiles and a small map; of 160 px, 5,041 tiles and the largest map.
@pytest.mark.parametrize(("tile_px", "num_images"), [(512, NUM_IMAGES), (160, 2)])
def test_a_night_of_large_images_takes_the_memory_of_one(
    tile_px: int, num_images: int, tmp_path: Path
) -> None:
    home = home_of(tmp_path, Tiling(tile_px=tile_px, overlap_px=tile_px // 8), num_images)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home)], check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    peaks = found["peaks"]
    say(f"{num_images} images, tiles of {tile_px} px: MiB {[peak >> 20 for peak in peaks]}")
    assert len(found["verdicts"]) == num_images
    assert set(found["verdicts"]) <= {"normal", "defect"}
    assert max(peaks) - peaks[0] < MOST_BYTES
    assert peaks[-1] - peaks[len(peaks) // 2] < MOST_GROWTH_BYTES
