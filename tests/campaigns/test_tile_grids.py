"""Drawn products of 900 x 900 pixels, inspected by tiles: the place of the tiles hardly matters.

    pytest -m slow -s tests/campaigns/test_tile_grids.py

Takes about eight minutes on two cores.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.campaigns.campaign import say
from vqad.detection.score import Region
from vqad.detector import Detector
from vqad.images.decoding import WholeImage
from vqad.model.kinds import Kind
from vqad.synthetic import KINDS, draw
from vqad.training import dataset
from vqad.training.good_images import good_images
from vqad.training.learned_tiles import drawing_of
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS
from vqad.training.tiled_category import training_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SIZE_PX = 900
NUM_IMAGES = 40
NUM_NEW = 12  # good images that the detector has not seen
TILE_PX = 240
PRESET = "tiny"
LINE = ((330, 420), (570, 690))  # over three seams of the tiles


def fitted(product: str, kind: Kind, folder: Path) -> Detector:
    good = folder / product / "train" / "good"
    good.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(NUM_IMAGES):
        picture = draw(product, size_px=SIZE_PX, rng=rng)
        assert cv2.imwrite(str(good / f"{at:02}.png"), picture[..., ::-1])
    options = TrainOptions(category=product, kind=kind, preset=PRESET, form="full", tile_px=TILE_PX)
    size_px = PRESETS[PRESET].vqvae.image_size_px
    drawing = drawing_of(options, size_px=size_px, num_images=NUM_IMAGES)
    found = dataset.read(good_images(str(folder), product), size_px=size_px, drawing=drawing)
    training = training_of(found, options)
    assert list(training.records())
    return training.detector()


def regions_of(detector: Detector, picture: np.ndarray) -> list[Region]:
    found, _ = detector.inspect_whole(WholeImage(source=picture, is_rgb=True))
    return detector.regions(
        found.anomaly_maps[0], source_width_px=SIZE_PX, source_height_px=SIZE_PX
    )


def meets_line(region: Region) -> bool:
    """True if a point of the line lies in the region's box."""
    points = np.linspace(LINE[0], LINE[1], 1000)
    low = np.array([region.x_px, region.y_px])
    high = low + np.array([region.width_px, region.height_px])
    return bool(((points >= low) & (points <= high)).all(1).any())


@pytest.mark.parametrize(("product", "kind"), KINDS.items())
def test_half_a_tile_moves_scores_less_than_they_spread(
    product: str, kind: Kind, tmp_path: Path
) -> None:
    detector = fitted(product, kind, tmp_path)
    tiling = detector.settings.tiling
    assert tiling is not None
    rng = np.random.default_rng(1)
    pictures = [draw(product, size_px=SIZE_PX, rng=rng) for _ in range(NUM_NEW)]
    usual, moved = (
        np.array(
            [
                detector.inspect_whole(WholeImage(source=each, is_rgb=True), grid)[0].scores[0]
                for each in pictures
            ]
        )
        for grid in (
            tiling.grid(SIZE_PX, SIZE_PX, shift_px=shift_px) for shift_px in (0, TILE_PX // 2)
        )
    )
    found = detector.settings.found
    spread, of_all = np.std(found.held_out_scores), np.std(found.cross_fitted_scores)
    changes = np.abs(moved - usual)
    line = pictures[0].copy()
    cv2.line(line, *LINE, (255, 0, 255), 9)
    regions = regions_of(detector, line)
    lengths = [round(each.length_px) for each in regions if meets_line(each)]
    say(
        f"{product}: half a tile changes the scores by {changes.mean():.2f} (mean) and at most "
        f"{changes.max():.2f}; held-out scores spread by {spread:.2f}, those of all normal images "
        f"by {of_all:.2f}; threshold {detector.settings.threshold:.2f}; a line of 361 px has "
        f"regions of {lengths} px; {len(regions) - len(lengths)} others"
    )
    assert changes.mean() < of_all
    assert len(lengths) == 1
    assert lengths[0] > 300
