"""Every image gets a category or `_unknown`, by one rule at a time."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from vqad.images import listing, manifests
from vqad.images.routing import Routing, router
from vqad.storage import output_layout, uris
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


@pytest.mark.parametrize(
    ("shard", "member", "category"),
    [
        ("a.tar", "/fabric/2.png", "fabric"),
        ("a.tar", ".//2.png", UNKNOWN_CATEGORY),
        ("a.tar", "/2.png", UNKNOWN_CATEGORY),
        ("a.tar", "././fabric//2.png", "fabric"),
        ("a.tar", "../fabric/2.png", UNKNOWN_CATEGORY),
        ("a.tar", "t\udce4st/1.png", UNKNOWN_CATEGORY),
        ("pill/a.parquet", "/x/0.png", "pill"),
        ("a.parquet", "/x/0.png", "x"),
        ("a.tar", "螺" * 35 + "/1.png", "螺" * 35),
        ("a.tar", "x" * 300 + "/1.png", "x" * 300),
    ],
)
def test_a_members_first_folder_is_its_category_however_it_is_spelled(
    shard: str, member: str, category: str
) -> None:
    found = router(ARCHIVE, Routing())
    assert found.category(f"{ARCHIVE}/{shard}#{uris.encoded(member)}") == category


# What a tar or a file system may contain: any text, bytes that are not UTF-8 among it.
NAMES = st.binary(max_size=60).map(os.fsdecode) | st.text(max_size=300)


@settings(deadline=None)
@given(name=NAMES, pattern=st.sampled_from([None, "(.*)", "^([^/]*)"]))
@example(name="t\udce4st/1.png", pattern="^([^/]*)")
def test_any_name_has_a_category_that_a_table_and_a_folder_take(
    name: str, pattern: str | None
) -> None:
    try:
        member = uris.encoded(name)
    except UnicodeEncodeError:  # half a surrogate pair that no byte gives
        assume(False)
    category = router(ARCHIVE, Routing(category_pattern=pattern)).category(
        f"{ARCHIVE}/a.tar#{member}"
    )
    assert category
    assert pa.array([category], pa.string()).to_pylist() == [category]
    part = output_layout.part_of(category, ["file:///a.tar#1.png"])
    assert len(part.split("/")) == 2
    assert all(0 < len(each.encode()) <= 255 for each in part.split("/"))


def test_an_empty_category_is_refused() -> None:
    with pytest.raises(ValueError, match="category must not be empty; give a name or leave it out"):
        Routing(category="")


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
