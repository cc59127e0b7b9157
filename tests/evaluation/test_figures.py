"""The figures show the data that they are made of."""

import cv2
import numpy as np

from tests.evaluation.test_measure import SHAPE, inspected_of, measured_of, truth_of
from vqad.evaluation.ablations import ABLATIONS
from vqad.evaluation.figures import Shown, ablations, comparison, score_distributions
from vqad.evaluation.measure import distribution


def picture_of(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_figures_are_pictures_that_show_what_they_are_given() -> None:
    truth = truth_of()
    inspected = inspected_of(truth)
    counts = distribution(inspected.maps, truth.masks)
    one = score_distributions({"bottle": counts}, {"bottle": 1.0})
    four = score_distributions(dict.fromkeys("abcd", counts), dict.fromkeys("abcd", 1.0))
    assert picture_of(four).shape[1] > 2 * picture_of(one).shape[1]
    moved = score_distributions({"bottle": counts}, {"bottle": 100.0})
    assert not np.array_equal(picture_of(one), picture_of(moved))

    grey = np.full((*SHAPE, 3), 120, np.uint8)
    row = Shown(
        caption="crack, best",
        image=grey,
        truth=truth.masks[0],
        direct=grey,
        restored=grey,
        anomaly_map=inspected.maps[0],
        threshold=1.0,
    )
    two = picture_of(comparison([row, row]))
    assert two.shape[0] > 1.7 * picture_of(comparison([row])).shape[0]
    # Truth is tinted blue, the prediction red; BGR.
    assert (two[..., 0].astype(int) - two[..., 2] > 100).any()
    assert (two[..., 2].astype(int) - two[..., 0] > 100).any()

    methods = ("resampling", *ABLATIONS)
    bars = picture_of(ablations([measured_of(method) for method in methods]))
    # The paper's three colours, as BGR.
    for colour in ((180, 111, 61), (46, 138, 229), (156, 149, 143)):
        assert (np.abs(bars.astype(int) - colour).max(2) <= 2).sum() > 500
