"""An image that is inspected tile by tile has one score, one map, and whole defects."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tests.support.random_detectors import detector_of
from tests.training.test_networks import drawn_pixels
from vqad.array_types import Images
from vqad.detection import score, whole_scores
from vqad.detection.area_score import UNIT, AreaRule, UsualAreas
from vqad.detection.evidence import Evidence, Inspection
from vqad.detection.local_features import FeatureOptions
from vqad.detection.local_residuals import num_channels
from vqad.detection.local_statistics import Field, LocalStatisticsConfig
from vqad.detection.settings import Settings
from vqad.detection.surprisal import unknown
from vqad.detection.whole_images import Whole, look_at
from vqad.detection.whole_scores import MapSize, inspection_of
from vqad.detection.witnesses import LOCAL, WEIGHTS, Witness
from vqad.images.decoding import WholeImage, decode_whole
from vqad.images.placement import Placement
from vqad.images.roi import RegionOfInterest
from vqad.images.tensors import to_images, to_tensor
from vqad.images.tiles import Tiling
from vqad.synthetic import draw

TILING = Tiling(tile_px=48, overlap_px=12)


def image_of(pixels: np.ndarray) -> WholeImage:
    return WholeImage(source=pixels, is_rgb=True)


def size_of(whole: Whole, settings: Settings) -> MapSize:
    return whole_scores.map_size(
        whole.grid,
        size_px=settings.vqvae.image_size_px,
        minimum_area_px=settings.minimum_area_px,
    )


def drawn(height_px: int, width_px: int) -> np.ndarray:
    picture = draw("fabric", size_px=max(height_px, width_px), rng=np.random.default_rng(0))
    return picture[:height_px, :width_px]


class Bright:
    """Finds what is bright, with a field of one place every two pixels."""

    def __init__(self, settings: Settings, roi: RegionOfInterest | None = None) -> None:
        self.settings = settings
        self.roi = roi
        self.batches: list[int] = []

    def evidence(self, batch: Images, placements: Sequence[Placement]) -> Evidence:
        self.batches.append(len(batch))
        codes = torch.zeros(len(batch), 2, 2, dtype=torch.int64)
        grey = list(batch.mean(1).numpy() * np.float32(255))
        fields = [{LOCAL: _halved(each)} for each in grey]
        return Evidence(
            codes=codes, restored_codes=codes, differences=grey, surprisals=[], local_fields=fields
        )

    def witness_fields(self, found: Evidence) -> list[dict[str, Field]]:
        if self.settings.form == "plain":
            return []
        return [dict.fromkeys(WEIGHTS, fields[LOCAL]) for fields in found.local_fields]


def _halved(grey: np.ndarray) -> np.ndarray:
    side = len(grey) // 2
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)


@pytest.fixture
def plain() -> Settings:
    return replace(detector_of().settings, tiling=TILING, threshold=100.0, minimum_area_px=16)


@pytest.fixture
def full(plain: Settings) -> Settings:
    usual = UsualAreas(medians=[0.0] * 5, deviations=[10.0] * 5)
    features = FeatureOptions(image_size_px=plain.vqvae.image_size_px)
    config = LocalStatisticsConfig(features=features, num_in_bank=1, num_components=1, shared=True)
    assert num_channels(features)
    return replace(
        plain,
        form="full",
        unit=UNIT,
        threshold=12.0,
        usual=unknown(plain.vqvae.latent_size),
        witnesses=tuple(
            Witness(name=name, weight=weight, mean=0.0, deviation=1.0, largest=1.0)
            for name, weight in WEIGHTS.items()
        ),
        local_statistics=config,
        area_rule=AreaRule(usual=usual, scale=1.0),
    )


def test_an_image_of_one_tile_is_inspected_as_without_tiles() -> None:
    detector = detector_of()
    size_px = detector.settings.vqvae.image_size_px
    pixels = drawn_pixels(1)[0]
    alone = detector.inspect(to_images(to_tensor(pixels[None])))
    tiled = detector.with_settings(tiling=Tiling(tile_px=size_px, overlap_px=8))
    found, whole = tiled.inspect_whole(image_of(pixels))
    assert found.scores == alone.scores
    assert found.codes_changed == alone.codes_changed
    np.testing.assert_array_equal(found.anomaly_maps[0], alone.anomaly_maps[0])
    assert len(whole.grid) == 1


def test_tiles_are_inspected_in_batches_of_bounded_size(plain: Settings) -> None:
    detector = Bright(plain)
    whole = look_at(detector, image_of(drawn(200, 300)), batch_size=4)
    assert max(detector.batches) == 4
    assert sum(detector.batches) == len(whole.grid) == len(whole.codes) == 6 * 8


@pytest.mark.parametrize("form", ["plain", "full"])
def test_a_defect_across_seams_is_one_region(form: str, plain: Settings, full: Settings) -> None:
    settings = plain if form == "plain" else full
    pixels = np.full((160, 200, 3), 20, np.uint8)
    cv2.line(pixels, (5, 30), (190, 130), (255, 255, 255), 5)
    whole = look_at(Bright(settings), image_of(pixels))
    found = inspection_of(whole, settings)
    (anomaly_map,) = found.anomaly_maps
    size = size_of(whole, settings)
    assert found.verdicts == ["defect"]
    (region,) = score.regions(
        anomaly_map,
        threshold=settings.threshold,
        minimum_area_px=size.minimum_area_px,
        source_width_px=200,
        source_height_px=160,
    )
    assert region.x_px < 12
    assert region.width_px > 175
    assert region.height_px > 95
    assert score.score(anomaly_map, minimum_area_px=size.minimum_area_px) == found.scores[0]


@pytest.mark.parametrize("form", ["plain", "full"])
def test_only_what_lies_inside_of_a_region_counts(
    form: str, plain: Settings, full: Settings
) -> None:
    settings = plain if form == "plain" else full
    mask = np.zeros((160, 200), bool)
    mask[:, 30:101] = True
    roi = RegionOfInterest(mask=mask, source_px=(200, 160))

    def found(*lefts: int) -> tuple[Whole, Inspection]:
        pixels = np.full((160, 200, 3), 20, np.uint8)
        for left in lefts:
            pixels[60:90, left : left + 20] = 255
        whole = look_at(Bright(settings, roi), image_of(pixels))
        return whole, inspection_of(whole, settings)

    (whole, one), (_, more), (_, good) = found(60), found(60, 101, 5, 150), found()
    assert len(whole.grid) == 5 * 3  # of 5 * 6
    assert one.scores == more.scores
    assert good.scores < one.scores
    assert (good.verdicts, one.verdicts) == (["normal"], ["defect"])
    (anomaly_map,) = one.anomaly_maps
    np.testing.assert_array_equal(anomaly_map, more.anomaly_maps[0])
    side = settings.vqvae.image_size_px / 48
    outside = np.ones(anomaly_map.shape[1], bool)
    outside[round(30 * side) : round(101 * side)] = False
    assert not anomaly_map[:, outside].any()
    size = size_of(whole, settings)
    assert score.score(anomaly_map, minimum_area_px=size.minimum_area_px) == one.scores[0]


def test_the_map_covers_the_image_and_places_of_a_tile_are_as_many(full: Settings) -> None:
    whole = look_at(Bright(full), image_of(drawn(160, 200)))
    places = full.vqvae.image_size_px // 2
    assert whole.fields[LOCAL].shape == (round(160 * places / 48), round(200 * places / 48))
    assert whole_scores.places_of(whole.fields[LOCAL], whole.grid) == places


def test_a_small_defect_is_as_unusual_in_a_larger_image(full: Settings) -> None:
    scores = []
    for size in ((60, 60), (400, 600)):
        pixels = np.full((*size, 3), 20, np.uint8)
        pixels[20:32, 20:32] = 255
        scores += inspection_of(look_at(Bright(full), image_of(pixels)), full).scores
    assert scores[1] == pytest.approx(scores[0], rel=0.03)


def test_a_large_map_is_reduced_by_the_largest_values(
    full: Settings, plain: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((200, 300, 3), 20, np.uint8)
    pixels[50:80, 100:130] = 255
    for settings in (plain, full):
        exact = inspection_of(look_at(Bright(settings), image_of(pixels)), settings)
        monkeypatch.setattr("vqad.images.tiles.MOST_MAP_PIXELS", 3000)
        whole = look_at(Bright(settings), image_of(pixels))
        found = inspection_of(whole, settings)
        monkeypatch.undo()
        (anomaly_map,), size = found.anomaly_maps, size_of(whole, settings)
        assert anomaly_map.size <= 3000
        assert found.verdicts == exact.verdicts == ["defect"]
        assert found.scores[0] == pytest.approx(exact.scores[0], rel=0.2)
        assert anomaly_map.shape[1] / anomaly_map.shape[0] == pytest.approx(1.5, abs=0.05)
        assert size.minimum_area_px >= 1


def test_an_image_smaller_than_a_tile_is_refused(plain: Settings) -> None:
    with pytest.raises(ValueError, match="40 x 100 pixels are less than one tile of 48 x 48"):
        look_at(Bright(plain), image_of(drawn(100, 40)))


def test_tiles_of_a_file_are_rgb_and_of_its_own_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    image = decode_whole(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    assert (image.height_px, image.width_px) == (60, 70)
    np.testing.assert_array_equal(image.tile(5, 7, tile_px=48, size_px=48), pixels[5:53, 7:55])
    small = image.tile(5, 7, tile_px=48, size_px=24)
    np.testing.assert_array_equal(
        small, cv2.resize(pixels[5:53, 7:55], (24, 24), interpolation=cv2.INTER_AREA)
    )


def test_the_form_joined_takes_no_tiles(plain: Settings) -> None:
    with pytest.raises(ValueError, match="the form joined takes no tiles: use plain or full"):
        replace(plain, form="joined", usual=unknown(plain.vqvae.latent_size))
