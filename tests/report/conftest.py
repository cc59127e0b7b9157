"""A page in a browser; one browser and one page for all tests of this folder."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import drawn_night
from tests.support.browser import Browser, browser
from tests.support.drawn_night import NUM_BOLTS
from vqad.storage import output_layout


@pytest.fixture(scope="package")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """A page with more than a hundred cards, and the rows of its verdicts table."""
    home = tmp_path_factory.mktemp("night")
    output = str(home / "output")
    rows = drawn_night.write_night(home / "archive", output, drawn_night.images(NUM_BOLTS))
    drawn_night.make_page(output)
    return output, rows


@pytest.fixture(scope="package")
def opened() -> Iterator[Browser]:
    """One browser for all tests: starting it takes seconds."""
    with browser() as found:
        yield found


@pytest.fixture
def page(night: tuple[str, list[dict[str, Any]]], opened: Browser) -> Browser:
    """The page, freshly opened from its folder, without marks of earlier tests."""
    opened.requests.clear()
    opened.errors.clear()
    opened.open(f"file://{output_layout.report_page(night[0])}")
    opened.evaluate(
        "localStorage.clear(); marks = {}; byId('who').value = ''; showNumberOfMarks(); apply()"
    )
    return opened
