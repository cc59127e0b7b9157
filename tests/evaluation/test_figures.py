"""The figures show the data that they are made of."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.evaluation.test_measure import SHAPE, inspected_of, measured_of, truth_of
from vqad.evaluation.ablations import ABLATIONS
from vqad.evaluation.figures import Shown, ablations, comparison, score_distributions
from vqad.evaluation.measure import distribution
from vqad.training import figure_text


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


NAMES = ["螺丝", "Größe", "a$b$c", "line\nbreak", "\udce4", "Винт 螺"]


def test_truth_and_map_of_another_size_than_the_picture_are_shown_over_it() -> None:
    grey = np.full((60, 60, 3), 120, np.uint8)
    truth = np.zeros((40, 40), bool)
    truth[:20] = True
    row = Shown(
        caption="seam",
        image=grey,
        truth=truth,
        direct=grey,
        restored=grey,
        anomaly_map=truth.astype(np.float32) * 2,
        threshold=1.0,
    )
    assert coloured(row) > 1000 > coloured(replace(row, truth=np.zeros_like(truth)))


def coloured(row: Shown) -> int:
    """Pixels of the figure in which red or blue stands out, those of the map left out."""
    picture = picture_of(comparison([replace(row, anomaly_map=0 * row.anomaly_map)])).astype(int)
    return int((abs(picture[..., 0] - picture[..., 2]) > 50).sum())


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_are_drawn_without_a_warning(name: str) -> None:
    # Warnings are errors, a missing glyph among them.
    truth = truth_of()
    inspected = inspected_of(truth)
    counts = distribution(inspected.maps, truth.masks)
    plain = score_distributions({"a": counts}, {"a": 1.0})
    assert not np.array_equal(
        picture_of(score_distributions({name: counts}, {name: 1.0})), picture_of(plain)
    )
    grey = np.full((*SHAPE, 3), 120, np.uint8)
    row = Shown(
        caption=f"{name}, best",
        image=grey,
        truth=None,
        direct=grey,
        restored=grey,
        anomaly_map=inspected.maps[0],
        threshold=1.0,
    )
    assert picture_of(comparison([row])).size
    rows = [measured_of(method, name) for method in ("resampling", *ABLATIONS)]
    assert picture_of(ablations(rows)).size


def test_characters_that_no_font_has_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_text, "_fonts_with", lambda _: iter(()))
    assert figure_text.drawable("螺 ö 🔩")["text"] == "\\u87ba ö \\U0001f529"


def test_a_font_that_has_the_characters_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_text, "_fonts_with", lambda _: iter(["Some Font"]))
    found = figure_text.drawable("螺")
    assert (found["text"], found["fontfamily"]) == ("螺", ["DejaVu Sans", "Some Font"])
    assert figure_text.drawable("bottle")["fontfamily"] == ["DejaVu Sans"]
