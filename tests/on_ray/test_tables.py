"""The tables of an inspection open in every reader, are complete, and agree with run.json."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.support.finished_inspection import ON_RAY, Finished, verdicts
from vqad import tables
from vqad.images import listing

pytestmark = ON_RAY


def _pandas(place: Path) -> list[dict[str, Any]]:
    return pd.read_parquet(place).to_dict("records")


def _duckdb(place: Path) -> list[dict[str, Any]]:
    pattern = f"{place}/**/*.parquet" if place.is_dir() else str(place)
    return duckdb.sql(f"select * from read_parquet('{pattern}')").to_arrow_table().to_pylist()


def _polars(place: Path) -> list[dict[str, Any]]:
    pattern = f"{place}/**/*.parquet" if place.is_dir() else str(place)
    return pl.read_parquet(pattern).to_dicts()


def _pyarrow(place: Path) -> list[dict[str, Any]]:
    return pq.read_table(place).to_pylist()


READERS = [_pandas, _duckdb, _polars, _pyarrow]


def parts(finished: Finished, table: str) -> list[Path]:
    return sorted((finished.output / table).rglob("*.parquet"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", ["verdicts", "maps"])
def test_tables_open_as_a_whole_folder_and_file_by_file(
    finished: Finished, table: str, reader: Callable[[Path], list[dict[str, Any]]]
) -> None:
    expected = {row["image"] for row in verdicts(finished.output)}
    if table == "maps":
        expected = {row["image"] for row in verdicts(finished.output) if not row["error"]}
    by_file = [row for part in parts(finished, table) for row in reader(part)]
    assert sorted(row["image"] for row in by_file) == sorted(expected)
    whole = reader(finished.output / table)
    assert sorted(row["image"] for row in whole) == sorted(expected)


def test_files_have_the_promised_schemas(finished: Finished) -> None:
    for table, schema in (("verdicts", tables.VERDICTS), ("maps", tables.MAPS)):
        assert parts(finished, table)
        for part in parts(finished, table):
            assert pq.read_schema(part).equals(schema, check_metadata=True), part


def test_a_map_has_the_same_values_wherever_it_is_opened(finished: Finished) -> None:
    def maps(reader: Callable[[Path], list[dict[str, Any]]]) -> dict[str, np.ndarray]:
        return {
            row["image"]: np.array(row["anomaly_map"], np.float32).reshape(
                row["map_height_px"], row["map_width_px"]
            )
            for row in reader(finished.output / "maps")
        }

    first, *others = [maps(reader) for reader in READERS]
    assert any(each.any() for each in first.values())
    assert {each.shape for each in first.values()} == {(32, 32)}
    for other in others:
        assert other.keys() == first.keys()
        for image, anomaly_map in first.items():
            np.testing.assert_array_equal(other[image], anomaly_map)


def test_text_is_never_null_and_a_reject_has_no_numbers_no_regions_and_no_map(
    finished: Finished,
) -> None:
    rows = verdicts(finished.output)
    mapped = {row["image"] for row in _pyarrow(finished.output / "maps")}
    numbers = ("score", "threshold", "codes_changed", "width_px", "height_px", "p_value")
    for row in rows:
        texts = [field.name for field in tables.VERDICTS if field.type == "string"]
        assert all(row[name] is not None for name in texts)
        is_reject = row["verdict"] == "reject"
        assert is_reject == bool(row["error"]) == bool(row["error_detail"])
        assert all((row[name] is None) == is_reject for name in numbers), row
        assert (row["image"] not in mapped) == is_reject
        if is_reject:
            assert row["regions"] == []
        assert row["witnesses"] is None  # these detectors are of the plain form
    assert {row["verdict"] for row in rows} == {"normal", "defect", "reject"}


def test_regions_lie_inside_the_source_image_and_only_on_defects(finished: Finished) -> None:
    num_regions = 0
    for row in verdicts(finished.output):
        if row["verdict"] != "reject":
            assert (row["verdict"] == "defect") == (row["score"] > row["threshold"])
            assert (row["verdict"] == "defect") == bool(row["regions"])
        for region in row["regions"]:
            num_regions += 1
            assert 0 <= region["x_px"] < region["x_px"] + region["width_px"] <= row["width_px"]
            assert 0 <= region["y_px"] < region["y_px"] + region["height_px"] <= row["height_px"]
            assert 0 < region["area_px"] <= region["width_px"] * region["height_px"]
            assert region["peak"] > row["threshold"]
    assert num_regions


def test_every_listed_image_has_one_verdict_and_the_counts_add_up(finished: Finished) -> None:
    rows, summary = verdicts(finished.output), finished.summary
    listed = [each.image for each in listing.list_images(str(finished.archive))]
    assert [row["image"] for row in rows] == listed
    assert summary["listed"] == len(listed) == summary["images"] + summary["skipped"]
    counts = Counter(row["verdict"] for row in rows)
    for verdict in ("normal", "defect", "reject"):
        assert summary[verdict] == counts[verdict]
    assert summary["images"] == counts.total()
    assert {row["run"] for row in rows} == {summary["run"]}


def test_run_json_is_the_record_of_the_latest_run(finished: Finished) -> None:
    data = (finished.output / "run.json").read_bytes()
    assert data == (finished.output / "runs" / f"{finished.summary['run']}.json").read_bytes()
    record = json.loads(data)
    rows = verdicts(finished.output)
    for category, counts in record["categories"].items():
        found = Counter(row["verdict"] for row in rows if row["category"] == category)
        assert counts == {each: found[each] for each in ("normal", "defect", "reject")}
    assert record["errors"] == Counter(row["error"] for row in rows if row["error"])
    for name in ("run", "listed", "skipped", "images", "seconds"):
        assert record[name] == finished.summary[name]
    assert record["asked"]["archive"] == finished.archive.as_uri()
    assert set(record["model_versions"]) == {"fabric", "washer"}


def test_a_contact_sheet_is_left(finished: Finished) -> None:
    (sheet,) = (finished.output / "sheets" / finished.summary["run"]).iterdir()
    assert sheet.read_bytes().startswith(b"\x89PNG")
