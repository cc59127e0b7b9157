"""What people see of images with tiles, and what a bench times: sheets, decodings, stages."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.inspection.test_whole_rows import SIZES, TILING, home
from vqad.benchmarks import inspection
from vqad.detection.stitched import stitched
from vqad.detection.whole_images import look_at
from vqad.detector import Detector
from vqad.evaluation.methods import AblatedMethod, decodings
from vqad.images import listing
from vqad.images.decoding import decode_whole
from vqad.inspection.run_report import draw_sheet
from vqad.report.restored import Restoring

__all__ = ["home"]  # a fixture


@pytest.fixture
def detector(home: Path) -> Detector:
    return Detector.load(str(home / "models"), "fabric")


def images(home: Path) -> list[str]:
    return [(home / "archive" / "fabric" / f"{at}.png").as_uri() for at in range(len(SIZES))]


def test_pictures_of_tiles_become_one_picture(home: Path, detector: Detector) -> None:
    image = decode_whole((home / "archive" / "fabric" / "0.png").read_bytes())
    whole = look_at(detector, image)
    corner = {at: np.full((1, 1, 3), 10 * at, np.uint8) for at in range(len(whole.grid))}
    numbers = iter(corner.values())
    size_px = detector.settings.vqvae.image_size_px
    found = stitched(
        whole.grid,
        whole.codes,
        lambda codes: np.concatenate(
            [next(numbers).repeat(size_px, 0).repeat(size_px, 1)[None] for _ in codes]
        ),
        most_px=130,
    )
    assert found.shape == (90, 130, 3)
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[-1, -1].tolist() == [10 * (len(whole.grid) - 1)] * 3
    assert np.abs(np.diff(found[..., 0].astype(int), axis=1)).max() < 10


def test_a_sheet_and_figures_have_pictures_of_the_whole_image(
    home: Path, detector: Detector
) -> None:
    rows = [{"image": image, "category": "fabric"} for image in images(home)[:2]]
    data = draw_sheet(rows, str(home / "models"), {"fabric": detector.version})
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape[0] > 2 * 256
    method = AblatedMethod(str(home / "models"), "fabric", detector.version)
    for picture, direct, restored in decodings(method, images(home)[:2]):
        assert picture.shape == direct.shape == restored.shape
        assert picture.dtype == np.uint8
    wide, high = (decodings(method, [images(home)[at]])[0][0].shape for at in (2, 3))
    assert wide[1] > 3 * wide[0]
    assert high[0] > high[1]


def test_the_page_restores_images_of_few_tiles_and_says_why_others_are_not(
    home: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqad.report.restored.MOST_TILES", 12)
    row = {"category": "fabric", "model_version": detector.version}
    restoring = Restoring(str(home / "models"), row)
    archive = home / "archive" / "fabric"
    large = cv2.imencode(".png", np.zeros((48, 1000, 3), np.uint8))[1].tobytes()
    for name in ("0.png", "small.png", "broken.png"):
        restoring.add(name, (archive / name).read_bytes())
    restoring.add("large.png", large)
    found = restoring.pictures()
    assert set(found) == {"0.png"}
    ((_, _, wanted),) = decodings(
        AblatedMethod(str(home / "models"), "fabric", detector.version), images(home)[:1]
    )
    np.testing.assert_array_equal(found["0.png"], wanted)
    assert restoring.reason_of("0.png") == ""
    assert restoring.reason_of("small.png").startswith("100 x 47 pixels are less than one tile")
    assert restoring.reason_of("large.png") == "it has 28 tiles; at most 12 are restored"


def test_a_bench_times_tiles(home: Path, detector: Detector) -> None:
    listed = [
        each
        for each in listing.list_images(str(home / "archive"))
        if each.image in set(images(home)[:2])
    ]
    seconds = inspection.whole(detector, listed, batch_size=4)
    assert {"fetch", "decode", "inspect"} <= set(seconds)
    stages, flops = inspection.stages(detector, listed, batch_size=4)
    assert {"encode", "resample", "score"} <= set(stages)
    assert flops > 0
    side_px = detector.settings.vqvae.image_size_px
    assert inspection.read_images(detector, listed).shape == (2, 3, side_px, side_px)
    assert TILING.tile_px > side_px
