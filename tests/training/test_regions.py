"""A category with a region of interest: what lies outside changes nothing, from fit to verdict."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs.train import main
from tests.model.test_vqvae import CONFIG
from tests.support.random_detectors import assert_equal_bits, assert_refused, rewrite
from tests.training.test_full_form import NAMES, PIXELS
from tests.training.test_networks import PRIOR, PRIOR_BUDGET, VQVAE_BUDGET
from tests.training.test_segmenter import SMALL
from vqad.detection.score import score
from vqad.detector import Detector
from vqad.images import listing
from vqad.images.placement import Geometry, ImageForm
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import to_images, to_tensor
from vqad.training import dataset
from vqad.training.category import Training
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset
from vqad.training.recalibrate import recalibrate

SIDE_PX = 16
OPTIONS = TrainOptions(
    category="washer", kind="rotatable_object", preset="tiny", form="full", eta=0.05
)


def region() -> RegionOfInterest:
    mask = np.zeros((SIDE_PX, SIDE_PX), bool)
    mask[:, :10] = True
    return RegionOfInterest(mask=mask, source_px=(SIDE_PX, SIDE_PX))


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        preset = Preset(
            vqvae=CONFIG,
            prior=PRIOR,
            fit_vqvae=VQVAE_BUDGET,
            fit_prior=PRIOR_BUDGET,
            segmenter=SMALL,
        )
        patch.setitem(PRESETS, "tiny", preset)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("washers")
    folder = home / "washer" / "train" / "good"
    folder.mkdir(parents=True)
    for number, pixels in enumerate(PIXELS):
        assert cv2.imwrite(str(folder / f"{number:02}.png"), pixels[..., ::-1])
    return str(home)


def fitted(data: str) -> Detector:
    listed = listing.list_images(f"{data}/washer/train/good")
    found = dataset.read(listed, size_px=SIDE_PX, roi=region(), bits=16)
    training = Training(
        found.names, found.pixels, OPTIONS, geometry=found.geometry, sizes_px=found.sizes_px
    )
    assert list(training.records())
    return training.detector()


@pytest.fixture(scope="module")
def detector(data: str) -> Detector:
    return fitted(data)


def with_defect(left_px: int) -> np.ndarray:
    pixels = PIXELS[:6].copy()
    pixels[:, 5:9, left_px : left_px + 4] = (255, 0, 0)
    return pixels


def test_a_defect_outside_changes_nothing_and_one_inside_is_found(detector: Detector) -> None:
    sources = [(SIDE_PX, SIDE_PX)] * 6
    good = detector.inspect(to_images(to_tensor(PIXELS[:6])), sources)
    outside = detector.inspect(to_images(to_tensor(with_defect(11))), sources)
    inside = detector.inspect(to_images(to_tensor(with_defect(4))), sources)
    assert_equal_bits(good, outside)
    assert set(inside.verdicts) == {"defect"}
    area_px = detector.settings.minimum_area_px
    for found in (good, inside):
        for anomaly_map, own in zip(found.anomaly_maps, found.scores, strict=True):
            assert not anomaly_map[:, 10:].any()
            assert score(anomaly_map, minimum_area_px=area_px) == own
    for anomaly_map in inside.anomaly_maps:
        boxes = detector.regions(anomaly_map, source_width_px=SIDE_PX, source_height_px=SIDE_PX)
        assert boxes
        assert max(each.x_px + each.width_px for each in boxes) <= 10


def test_what_lies_outside_shapes_no_fit(data: str, detector: Detector, tmp_path: Path) -> None:
    other = tmp_path / "washer" / "train" / "good"
    other.mkdir(parents=True)
    for path in sorted(Path(data, "washer", "train", "good").iterdir()):
        pixels = cv2.imread(str(path))
        pixels[:, 10:] = 255 - pixels[:, 10:]
        assert cv2.imwrite(str(other / path.name), pixels)
    same = fitted(str(tmp_path))
    images = to_images(to_tensor(PIXELS[:6]))
    assert same.settings.threshold == detector.settings.threshold
    assert_equal_bits(same.inspect(images), detector.inspect(images))


def test_it_is_saved_with_its_hash_and_used_by_a_calibration(
    data: str, detector: Detector, tmp_path: Path
) -> None:
    models = str(tmp_path)
    version = detector.save(models)
    loaded = Detector.load(models, "washer")
    images = to_images(to_tensor(with_defect(11)))
    assert_equal_bits(loaded.inspect(images), detector.inspect(images))
    outcome = recalibrate(data, models, OPTIONS, cpus=1, gpus=0.0)
    assert outcome["threshold"] == detector.settings.threshold
    folder = tmp_path / "washer" / version
    mask = cv2.imread(str(folder / "roi.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask > 0, region().mask)
    assert cv2.imwrite(str(folder / "roi.png"), 255 - mask)
    assert_refused(models, "roi.png does not match its recorded hash and size", version=version)
    rewrite(folder, lambda record: record["files"].pop("roi.png"))
    assert_refused(models, "roi.png is not in the detector's record", version=version)


def test_an_image_of_another_shape_is_refused_in_a_fit(data: str) -> None:
    listed = listing.list_images(f"{data}/washer/train/good")
    mask = np.ones((8, 16), bool)
    with pytest.raises(ValueError, match=r"00.png has 16 x 16 pixels, but the region of interest"):
        dataset.read(listed, size_px=16, roi=RegionOfInterest(mask=mask, source_px=(16, 8)))


def refused(
    capsys: pytest.CaptureFixture[str], data: str, *arguments: str, config: str = ""
) -> str:
    line = ["--data", data, "--models", f"{data}/../models", "--preset", "tiny", *arguments]
    assert main([*line, *(["--config", config] if config else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (said,) = captured.err.strip().splitlines()
    return said


def test_a_mask_of_another_size_or_name_ends_the_command_with_one_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    assert cv2.imwrite(str(large), np.full((32, 32), 255, np.uint8))
    tiny = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    tiny[3, 3:5] = 255
    assert cv2.imwrite(str(small), tiny)
    said = refused(capsys, data, "--roi", f"washer={large}")
    assert "is of images of 32 x 32 pixels, but file:///" in said
    assert said.endswith("00.png has 16 x 16; draw it on one of the category's images")
    said = refused(capsys, data, "--roi", f"washer={tmp_path}/larg.png")
    assert said.endswith(f"{tmp_path} has large.png, small.png")
    said = refused(capsys, data, "--roi", f"wascher={large}")
    assert said.endswith("has no wascher; did you mean washer?")
    said = refused(capsys, data, "--ignore", f"washer={large}")
    assert "leave no pixel that counts" in said
    for tiles in ([], ["--tile-px", "16"]):
        said = refused(capsys, data, "--roi", f"washer={large}", *tiles)
        assert "is of images of 32 x 32 pixels, but file:///" in said
    said = refused(capsys, data, "--roi", f"washer={small}")
    assert "has at most 2 pixels of the map in one piece, fewer than the minimum area" in said


def test_the_configuration_names_a_region_of_each_category(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"width_px": 9, "height_px": 9, "polygons": [[[0, 0], [8, 0], [8, 8]]]}
    (tmp_path / "some.json").write_text(json.dumps(points))
    config = tmp_path / "vqad.toml"
    config.write_text(f'[categories.washer]\nignore = "{tmp_path}/some.json"\n')
    said = refused(capsys, data, config=str(config))
    assert "some.json, is of images of 9 x 9 pixels, but file:///" in said


def test_names_are_those_of_the_images(detector: Detector) -> None:
    assert len(NAMES) == detector.settings.found.num_images
    assert detector.geometry.form == ImageForm(size_px=SIDE_PX, roi_source_px=(SIDE_PX, SIDE_PX))
    assert isinstance(detector.geometry, Geometry)
