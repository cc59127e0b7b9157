"""A night with a second detector on Ray, killed and run again: one fetch of each file, one row."""

import random
import time
from collections import Counter
from pathlib import Path

from tests.campaigns import campaign
from tests.support import small_detectors
from tests.support.faulty_store import Faults, faulty_store
from tests.support.finished_inspection import ON_RAY
from tests.support.s3_server import S3Server
from vqad.detector import Detector
from vqad.inspection import sink
from vqad.storage import files, output_layout
from vqad.storage.uris import path_of

pytestmark = ON_RAY


def uploaded(home: Path, bucket: str) -> str:
    """An archive of 64 images of fabric in the bucket."""
    for path in sorted((home / "archive" / "fabric" / "test").rglob("*.png")):
        for n in range(8):
            files.write_bytes(f"{bucket}/archive/fabric/{n}/{path.name}", path.read_bytes())
    return f"{bucket}/archive"


def test_a_night_with_two_detectors_killed_and_run_again_has_one_fetch_and_one_row_each(
    s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    small_detectors.draw(tmp_path / "archive", ("fabric",))
    models, output = f"{bucket}/models", f"{bucket}/output"
    in_force = small_detectors.save_detector(models, "fabric", str(tmp_path / "archive"))
    second = Detector.load(models, "fabric").with_settings(threshold=0.0)
    version = second.save(models, promote=False)
    archive = uploaded(tmp_path, bucket)
    images = {f"{archive}/fabric/{each}" for each in _names(archive)}
    places = ("--archive", archive, "--models", models, "--output", output)
    line = (*places, "--shadow", "latest", "--no-report")
    faults = Faults(behind=s3.endpoint)
    with faulty_store(faults):
        killed = campaign.start(s3, faults.endpoint, *line)
        give_up_s = time.monotonic() + 120
        while not sink.parts(output, "verdicts"):
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        assert campaign.kill(killed, "driver and Ray", random.Random(1))
        killed.communicate()
        done = {row["image"] for row in campaign.table_of(output, "verdicts")}
        faults.reads.clear()
        summary = campaign.finish(campaign.start(s3, faults.endpoint, *line))
    assert summary["images"] == len(images) - len(done)
    read = Counter({image: faults.reads[f"/{path_of(image)}"] for image in images})
    assert set(read.values()) <= {0, 1}
    assert {image for image in images if read[image]} == images - done
    own = campaign.table_of(output, "verdicts")
    beside = campaign.table_of(output_layout.shadow(output), "verdicts")
    for rows, its in ((own, in_force), (beside, version)):
        assert sorted(row["image"] for row in rows) == sorted(images)
        assert {row["model_version"] for row in rows} == {its}


def _names(archive: str) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder in files.list_names(f"{archive}/fabric")
        for name in files.list_names(f"{archive}/fabric/{folder}")
    ]
