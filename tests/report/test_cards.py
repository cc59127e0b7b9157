"""Cards: pictures of images that are still there, and the reasons of those that are missing."""

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import drawn_night
from tests.support.drawn_night import Image
from vqad import tables
from vqad.images import listing, sources
from vqad.inspection import map_rows
from vqad.report import cards
from vqad.report.cards import Card, batches
from vqad.report.job import ReportJob
from vqad.report.survey import survey
from vqad.storage import files, output_layout


@pytest.fixture
def night(tmp_path: Path) -> tuple[Path, str]:
    """Folder of the archive, and the output of its inspection."""
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output)
    return tmp_path / "archive", output


def drawn(output: str, **options: object) -> dict[str, Card]:
    """All cards by the name of their image."""
    _, found = drawn_night.make_page(output, **options)
    return {card.row["image"].rpartition("/")[2]: card for card in found}


def test_a_judged_image_has_crop_whole_image_map_and_outline(night: tuple[Path, str]) -> None:
    card = drawn(night[1], restored=0)["000.png"]
    assert set(card.names) == {"crop", "whole", "map"}
    assert not card.missing
    assert card.crop
    assert (card.crop.width_px, card.crop.height_px) == (30, 30)
    assert card.map_size_px == (32, 32)
    assert card.outline.startswith("M")
    for name in card.names.values():
        data = files.read_bytes(output_layout.report_picture(night[1], name), max_bytes=20_000)
        assert data.startswith(b"RIFF")


def test_a_normal_image_has_no_outline_even_where_its_map_is_above_the_threshold(
    tmp_path: Path,
) -> None:
    output = str(tmp_path / "output")
    found = [Image(name="bolt/1.png", score=30.0), Image(name="bolt/2.png", score=10.0)]
    drawn_night.write_night(tmp_path / "archive", output, found)
    (path,) = Path(output, "maps").glob("*/*.parquet")
    table = pq.read_table(path).to_pylist()
    for row in table:
        row["anomaly_map"][0] = 35.0  # one pixel: no region
    pq.write_table(pa.Table.from_pylist(table, schema=tables.MAPS), path)
    cards_of = drawn(output, restored=0)
    assert "map" in cards_of["2.png"].names
    assert cards_of["2.png"].outline == ""
    assert cards_of["1.png"].outline.count("M") == len(cards_of["1.png"].row["regions"]) == 1


def test_a_reject_has_its_reason(night: tuple[Path, str]) -> None:
    card = drawn(night[1], restored=0)["broken.png"]
    assert set(card.missing) == {"whole"}
    assert not card.names
    assert card.row["error"] == "unreadable"


def test_an_image_that_has_changed_is_not_shown(night: tuple[Path, str]) -> None:
    archive, output = night
    os.utime(archive / "bolt" / "000.png", ns=(1, 1))
    (archive / "bolt" / "001.png").unlink()
    found = drawn(output, restored=0)
    assert found["000.png"].missing["whole"] == sources.CHANGED
    assert found["001.png"].missing["whole"] == "the image file is gone"
    assert set(found["000.png"].names) == {"map"}


def test_an_image_without_a_map_has_a_crop_of_its_region_and_says_so(
    night: tuple[Path, str],
) -> None:
    for path in Path(night[1], "maps").glob("*/*.parquet"):
        path.unlink()
    found = drawn(night[1], restored=0)
    assert set(found["000.png"].names) == {"crop", "whole"}
    assert found["000.png"].missing == {"map": "no anomaly map was written for this image"}
    assert set(found["011.png"].names) == {"whole"}  # normal: no region either


def test_without_a_folder_of_detectors_the_card_says_how_to_give_it(
    night: tuple[Path, str],
) -> None:
    found = drawn(night[1], restored=2)
    missing = [card.missing["restored"] for card in found.values() if "restored" in card.missing]
    assert len(missing) == 2
    assert set(missing) == {
        "the detector cannot be loaded: run.json names no folder with detectors; give --models"
    }


def test_members_of_a_shard_are_read_in_one_pass(tmp_path: Path) -> None:
    shard = tmp_path / "night.tar"
    with tarfile.open(shard, "w") as tar:
        for image in drawn_night.images():
            drawn_night.draw(tmp_path / image.name, image.score)
            tar.add(tmp_path / image.name, arcname=image.name)
    listed = listing.of_local(str(shard), shard.stat())
    members = [f"{listed.image}#bolt/{at:03}.png" for at in (0, 3, 99)]
    rows = [{"image": member, "source_etag": listed.etag} for member in members]
    found = [(row["image"], bool(data), reason) for row, data, reason in sources.read(rows)]
    assert found == [
        (members[0], True, ""),
        (members[1], True, ""),
        (members[2], False, "the image file is gone"),
    ]
    os.utime(shard, ns=(1, 1))
    assert {reason for _, _, reason in sources.read(rows)} == {sources.CHANGED}


def test_a_shard_that_breaks_off_leaves_the_reason_on_the_other_cards(tmp_path: Path) -> None:
    shard = tmp_path / "night.tar"
    with tarfile.open(shard, "w") as tar:
        for at in range(3):
            drawn_night.draw(tmp_path / f"{at}.png", 10.0)
            tar.add(tmp_path / f"{at}.png", arcname=f"{at}.png")
    shard.write_bytes(shard.read_bytes()[:1000])
    listed = listing.of_local(str(shard), shard.stat())
    rows = [{"image": f"{listed.image}#{at}.png", "source_etag": listed.etag} for at in range(3)]
    found = list(sources.read(rows))
    assert len(found) == 3
    assert {row["image"] for row, _, _ in found} == {row["image"] for row in rows}
    assert all(reason for _, data, reason in found if not data)
    assert not any(data for _, data, _ in found[1:])


def test_only_the_maps_of_the_wanted_images_are_read(night: tuple[Path, str]) -> None:
    rows = survey(ReportJob(output=night[1])).rows
    wanted = [row for row in rows if row["image"].endswith(("003.png", "007.png", "broken.png"))]
    found = map_rows.read(night[1], wanted)
    assert {image.rpartition("/")[2] for image in found} == {"003.png", "007.png"}
    by_image = {row["image"]: row for row in rows}
    for image, anomaly_map in found.items():
        assert anomaly_map.shape == (32, 32)
        assert anomaly_map.max() == np.float32(by_image[image]["score"])


def test_a_damaged_part_of_maps_has_no_maps(night: tuple[Path, str]) -> None:
    rows = survey(ReportJob(output=night[1])).rows
    for path in Path(night[1], "maps").glob("bolt/*.parquet"):
        path.write_bytes(path.read_bytes()[:-20])
    assert {image.split("/")[-2] for image in map_rows.read(night[1], rows)} == {"nut"}


@pytest.mark.parametrize("sizes", [(0, 0), (5, 7), (-1, 4)])
def test_a_map_of_an_impossible_size_is_no_map(night: tuple[Path, str], sizes: Any) -> None:
    rows = survey(ReportJob(output=night[1])).rows
    for path in Path(night[1], "maps").glob("bolt/*.parquet"):
        wrong = [
            row | {"map_height_px": sizes[0], "map_width_px": sizes[1]}
            for row in pq.read_table(path).to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(wrong, schema=tables.MAPS), path)
    assert {image.split("/")[-2] for image in map_rows.read(night[1], rows)} == {"nut"}


def test_batches_have_each_row_once_and_restore_the_most_severe_by_one_detector() -> None:
    rows = [
        {
            "image": f"s3://b/{'night.tar#' if at % 3 else ''}{at}.png",
            "category": "ab"[at % 2],
            "model_version": "v",
            "score": 50.0 - at,
            "part": f"p{at % 4}",
        }
        for at in range(40)
    ]
    rows += [dict(rows[0], image="s3://b/reject.png", score=None)]
    found = batches(rows, num_restored=10, size=4)
    assert sorted(row["image"] for each in found for row in each.rows) == sorted(
        row["image"] for row in rows
    )
    restored = [row["image"] for each in found if each.restore for row in each.rows]
    assert sorted(restored) == sorted(row["image"] for row in rows[:10])
    assert max(len(each.rows) for each in found) <= 4
    for each in found:
        if each.restore:
            assert len({row["category"] for row in each.rows}) == 1
        assert len({sources.shard_of(row) for row in each.rows}) == 1


def test_the_name_of_a_picture_follows_from_the_verdict(night: tuple[Path, str]) -> None:
    row = survey(ReportJob(output=night[1])).rows[0]
    assert cards.name_of(row, "map") == cards.name_of(dict(row), "map")
    assert cards.name_of(row, "map") != cards.name_of(row | {"source_etag": "other"}, "map")


def test_a_page_reads_a_map_of_any_size(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output, [Image(name="bolt/1.png", score=30.0)])
    (path,) = Path(output, "maps").glob("*/*.parquet")
    table = pq.read_table(path).to_pylist()
    table[0] |= {"map_height_px": 2, "map_width_px": 3, "anomaly_map": [0, 30, 0, 0, 0, 1]}
    pq.write_table(pa.Table.from_pylist(table, schema=tables.MAPS), path)
    card = drawn(output, restored=0)["1.png"]
    assert card.map_size_px == (3, 2)
    assert "map" in card.names
