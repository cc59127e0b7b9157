"""Verdicts in other light and place, and defects of each kind, on fifteen drawn products.

A campaign, run by hand: `pytest -m slow -s tests/campaigns/test_drawn_products.py` prints what it
found. It fits a detector of the preset tiny to each product; `-k leather` takes one of them. No Ray
is involved. `tests/training/test_harmless_changes.py` asks the same of the demo's three products.
"""

import pytest

from tests import drawn
from tests.campaigns.campaign import say
from tests.support.harmless_changes import CHANGES, fitted, num_found, num_kept
from vqad.detector import Detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=drawn.FIFTEEN)
def detector(request: pytest.FixtureRequest) -> Detector:
    return fitted(request.param)


@pytest.mark.parametrize("change", CHANGES)
def test_19_of_20_good_images_keep_their_verdict(detector: Detector, change: str) -> None:
    kept = num_kept(detector, change)
    say(f"{detector.settings.category}: {kept} of 20 good images keep their verdict {change}")
    assert kept >= 19


def test_8_of_10_defects_of_a_kind_are_found(detector: Detector) -> None:
    found = num_found(detector)
    say(f"{detector.settings.category}: of 10 defects of a kind are found {found}")
    assert min(found.values()) >= 8
