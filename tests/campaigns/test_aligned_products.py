"""What turning each image into one pose brings to local statistics, on drawn products.

By hand, in about two minutes: `pytest -m slow -s tests/campaigns/test_aligned_products.py`.
"""

import numpy as np
import pytest

from tests import drawn
from tests.campaigns.campaign import say
from vqad.detection import calibrate
from vqad.detection.area_score import area_score, usual_areas
from vqad.evaluation import metrics
from vqad.images.decoding import to_unit
from vqad.training.alignment import aligned_pixels, found_in
from vqad.training.local_statistics import fit_statistics

pytestmark = pytest.mark.slow
SIDE_PX, NUM_TRAINING, NUM_GOOD, NUM_DEFECTS = 256, 120, 40, 10
NAMES = [f"{number:03}.png" for number in range(NUM_TRAINING)]


def good(category: str, series: int, num: int) -> np.ndarray:
    rngs = (np.random.default_rng([series, number]) for number in range(num))
    return np.stack([drawn.draw(category, size_px=SIDE_PX, rng=rng) for rng in rngs])


def defective(category: str) -> np.ndarray:
    return np.stack(
        [
            drawn.draw_defect(
                category, defect, size_px=SIDE_PX, rng=np.random.default_rng([7, number])
            )[0]
            for defect in drawn.defects(category)
            for number in range(NUM_DEFECTS)
        ]
    )


def auroc(category: str, *, aligned: bool) -> tuple[float, float]:
    """Image AUROC, and the share of defects above the threshold for 5 % of false alarms."""
    learned, *tested = good(category, 1, NUM_TRAINING), good(category, 2, NUM_GOOD)
    tested.append(defective(category))
    if aligned:
        templates = found_in(NAMES, learned).templates
        learned, *tested = (aligned_pixels(templates, each) for each in (learned, *tested))
    fitted = fit_statistics(learned, groups=NAMES, seed=0)
    usual = usual_areas(fitted.fields)
    threshold = calibrate.cross_fitted_threshold(
        [area_score(each, usual) for each in fitted.fields], quantile=None
    )
    of_good, of_defects = (
        [area_score(each, usual) for each in fitted.statistics.inspect(to_unit(pixels))]
        for pixels in tested
    )
    is_defect = np.arange(len(of_good) + len(of_defects)) >= len(of_good)
    found = float(np.mean(np.array(of_defects) > threshold))
    area = metrics.auroc(is_defect, np.array([*of_good, *of_defects]))
    assert area is not None
    return area, found


@pytest.mark.parametrize("category", ["screw", "metal_nut"])
def test_products_in_any_direction_are_judged_as_well_or_better_in_one_pose(category: str) -> None:
    before, after = (auroc(category, aligned=each) for each in (False, True))
    say(
        f"{category}: image AUROC {before[0]:.3f} and {after[0]:.3f} in one pose, defects found "
        f"{before[1]:.2f} and {after[1]:.2f}"
    )
    assert after[0] >= before[0] - 0.005
    assert after[1] >= before[1]
