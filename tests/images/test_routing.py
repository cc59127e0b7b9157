"""Every image gets a category or `_unknown`, by one rule at a time."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from vqad.images import listing, manifests
from vqad.images.routing import Routing, router
from vqad.storage import uris
from vqad.tables import UNKNOWN_CATEGORY

ARCHIVE = "s3://plant/night"


def listed(*paths: str, archive: str = ARCHIVE) -> list[listing.Listed]:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    return [
        listing.Listed(
            image=uris.absolute(uris.join(archive, path)),
            size_bytes=1,
            etag="e",
            modified_at=at,
        )
        for path in paths
    ]


def categories(routing: Routing, *paths: str, archive: str = ARCHIVE) -> list[str]:
    images = listed(*paths, archive=archive)
    found = router(archive, routing)
    return [found.category(each.image) for each in images]


def test_the_first_folder_below_the_archive_is_the_category() -> None:
    found = categories(Routing(), "bottle/1.png", "pill/test/crack/2.png", "metal nut/3.png")
    assert found == ["bottle", "pill", "metal nut"]


def test_an_image_in_no_folder_has_no_category_that_can_be_told() -> None:
    assert categories(Routing(), "1.png") == [UNKNOWN_CATEGORY]


def test_a_given_category_is_that_of_every_image() -> None:
    assert categories(Routing(category="pill"), "bottle/1.png", "2.png") == ["pill", "pill"]


def test_a_pattern_names_the_category_by_its_first_group() -> None:
    routing = Routing(category_pattern=r"cam[0-9]-([a-z]+)_([0-9]+)")
    found = categories(routing, "x/cam1-bottle_07.png", "cam2-pill_8.png", "y/other.png")
    assert found == ["bottle", "pill", UNKNOWN_CATEGORY]


def test_a_pattern_is_searched_below_the_archive_only() -> None:
    assert categories(Routing(category_pattern="(night|plant)"), "1.png") == [UNKNOWN_CATEGORY]


def test_a_group_that_matches_nothing_names_nothing() -> None:
    assert categories(Routing(category_pattern="(bottle)?_"), "x_1.png") == [UNKNOWN_CATEGORY]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_manifest_names_the_category_of_each_image(tmp_path: Path, ending: str) -> None:
    images = [f"{tmp_path}/a b.png", f"{ARCHIVE}/2.png"]
    rows = pd.DataFrame({"image": images, "category": ["bottle", "pill"], "more": [1, 2]})
    uri = f"{tmp_path}/manifest.{ending}"
    rows.to_csv(uri) if ending == "csv" else rows.to_parquet(uri)
    assert manifests.read(uri) == {
        uris.absolute(images[0]): "bottle",
        f"{ARCHIVE}/2.png": "pill",
    }
    routing = Routing(manifest=uri)
    assert categories(routing, "2.png", "pill/3.png") == ["pill", UNKNOWN_CATEGORY]
    assert categories(routing, "a b.png", archive=str(tmp_path)) == ["bottle"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_row_without_a_category_is_unknown_and_not_called_nan(
    tmp_path: Path, ending: str
) -> None:
    rows = pd.DataFrame({"image": [f"{ARCHIVE}/1.png", f"{ARCHIVE}/NA.png"], "category": None})
    rows.loc[1, "category"] = "NA"
    uri = f"{tmp_path}/manifest.{ending}"
    rows.to_csv(uri) if ending == "csv" else rows.to_parquet(uri)
    found = categories(Routing(manifest=uri), "1.png", "NA.png")
    assert found == [UNKNOWN_CATEGORY, "NA"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"category": "a", "manifest": "m.csv"},
            "give only one of category, manifest and category_pattern, got ['category', 'manifest'",
        ),
        (
            {"category_pattern": "[a-z"},
            "category_pattern '[a-z' is not a regular expression: unterminated",
        ),
        ({"category_pattern": "[a-z]+"}, "category_pattern needs a group that names the category"),
    ],
)
def test_contradictions_and_useless_patterns_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Routing(**options)
