"""Images that look wrong among good ones, and a dry run that names them and writes nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs import train
from vqad import synthetic
from vqad.benchmarks import training as benchmark
from vqad.training import odd_images
from vqad.training.dry_run import foresee
from vqad.training.job import TrainJob
from vqad.training.options import TrainOptions

NUM = 24


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn products."""
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.draw_archive(
        folder,
        categories=["fabric", "washer", "ampoule"],
        size_px=64,
        num_train=NUM,
        num_good=0,
        num_defect=0,
    )
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def good(data: Path, category: str) -> list[Path]:
    return sorted((data / category / "train" / "good").iterdir())


def foreseen(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict, str]:
    """The summary's categories and what was said; the fits are not timed."""
    monkeypatch.setattr(benchmark, "measure", lambda *_, **__: RATES)
    models = data.parent / "models"
    options = train.TrainCommand(data=str(data), models=str(models), preset="tiny", dry_run=True)
    summary, code = train.work(options)
    assert code == 0
    assert not models.exists()
    return summary, capfd.readouterr().err


RATES = benchmark.Rates(
    vqvae=100.0,
    encode=100.0,
    prior=100.0,
    calibrate=10.0,
    matrix_product_flops=1e9,
    share_vqvae=0.1,
    share_prior=0.1,
)


def test_good_images_of_three_products_have_no_warning(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, said = foreseen(data, capfd, monkeypatch)
    assert {name: each["warnings"] for name, each in summary["categories"].items()} == {
        "ampoule": [],
        "fabric": [],
        "washer": [],
    }
    washer = summary["categories"]["washer"]
    assert "washer: the smallest defect that can be found has 16 pixels of the map, " in said
    assert washer["minimum_area_px"] == 16
    assert (washer["images"], washer["read"], washer["held_out"]) == (NUM, NUM, 2)
    assert washer["seconds"] > 0
    assert "washer: 64 x 64 pixels" in said
    assert "washer: found to be of the kind" in said
    assert "minutes for the networks by themselves" in said


def test_what_looks_wrong_is_named(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    washers, ampoules = good(data, "washer"), good(data, "ampoule")
    picture = cv2.imread(str(washers[3]))
    cv2.imwrite(str(washers[4]), cv2.GaussianBlur(picture, (0, 0), 6))
    shutil.copy(ampoules[0], washers[5])
    shutil.copy(washers[6], washers[7])
    cv2.imwrite(str(washers[8]), cv2.resize(cv2.imread(str(washers[8])), (64, 48)))
    washers[9].write_bytes(b"no picture")
    summary, _ = foreseen(data, capfd, monkeypatch)
    warnings = summary["categories"]["washer"]["warnings"]
    at = {name: next((w for w in warnings if name in w), "") for name in _WHAT}
    names = {number: path.name for number, path in enumerate(washers)}
    assert names[9] in at["can't be read"]
    assert f"{names[6]}=" in at["copies of others"]
    assert names[5] in at["unlike the rest"]
    assert names[4] in at["blurred"]
    assert "64 x 48 pixels" in at["of another shape"]
    assert f"good/{names[5]} looks like an image of ampoule" in at["in the wrong folder"]
    assert not summary["categories"]["ampoule"]["warnings"]


_WHAT = (
    "can't be read",
    "copies of others",
    "unlike the rest",
    "blurred",
    "of another shape",
    "in the wrong folder",
)


def test_a_folder_of_another_category_and_a_mixed_one_are_named(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data / "washer", data / "bolt")
    (data / "fabric" / "train" / "good" / "defect").mkdir()
    moved = good(data, "fabric")[1]
    moved.rename(moved.parent / "defect" / moved.name)
    summary, said = foreseen(data, capfd, monkeypatch)
    categories = summary["categories"]
    assert categories["bolt"]["warnings"] == ["its images look like those of washer"]
    assert "whose name suggests images that are not good" in categories["fabric"]["failed"]
    assert "fabric: would fail: " in said


def test_a_dry_run_says_how_many_tiles_show_some_of_the_region(data: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :30] = 255
    roi = data.parent / "roi.png"
    assert cv2.imwrite(str(roi), mask)
    said: list[str] = []
    options = TrainOptions(
        category="fabric", kind="texture", preset="tiny", tile_px=32, tile_overlap_px=0
    )
    for each in (options, replace(options, roi=str(roi))):
        job = TrainJob(data=str(data), models=f"{data.parent}/models", options=[each])
        assert not foresee(job, said.append)[0].failed
    tiles = [line for line in said if "tiles" in line]
    assert tiles == [
        "fabric: an image of 64 x 64 has 4 tiles",
        "fabric: an image of 64 x 64 has 4 tiles, of which 2 show some of the region of interest",
    ]


def test_the_sizes_of_images_are_described() -> None:
    assert odd_images.shapes([(40, 30)] * 3) == "40 x 30 pixels"
    mixed = [(40, 30), (30, 40), (40, 40), (40, 30)]
    assert odd_images.shapes(mixed) == (
        "3 sizes, 30 x 40 to 40 x 40 pixels, width to height from 0.75 to 1.33: each is squashed "
        "to a square, so that one defect has many shapes"
    )
    assert odd_images.of_other_shape(mixed) == {}
    assert odd_images.of_other_shape([(40, 30)] * 20 + [(30, 40)]) == {
        20: "30 x 40 pixels, another shape than the rest"
    }


def test_a_few_images_and_equal_ones_are_no_reason_for_a_warning() -> None:
    pixels = np.zeros((12, 32, 32, 3), np.uint8)
    for some in (pixels, pixels[:3]):
        assert odd_images.far_from_the_rest(odd_images.small_pictures(some)) == {}
        assert odd_images.blurred(some) == {}
