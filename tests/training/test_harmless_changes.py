"""Good products keep their verdict in other light and place, and defects of each kind are found.

The demo's three products, with the preset that the demo uses and without Ray.
`tests/campaigns/test_drawn_products.py` asks the same of fifteen more.
"""

import pytest

from tests.support.harmless_changes import CHANGES, fitted, num_found, num_kept
from vqad.detector import Detector
from vqad.synthetic.products import PRODUCTS

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=PRODUCTS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return fitted(request.param)


@pytest.mark.parametrize("change", CHANGES)
def test_19_of_20_good_images_keep_their_verdict(detector: Detector, change: str) -> None:
    assert num_kept(detector, change) >= 19


def test_8_of_10_defects_of_a_kind_are_found(detector: Detector) -> None:
    assert min(num_found(detector).values()) >= 8
