"""An output of an older version goes on in it, and every reader opens all versions together."""

import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from tests.support.inspection_by_hand import again, home, inspect, job, moments, rows, runs
from vqad import tables
from vqad.detection.evidence import Inspection
from vqad.detector import Detector
from vqad.evaluation import results
from vqad.images.routing import Routing
from vqad.inspection import dry_run, ledger, sink
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.storage import errors

__all__ = ["home", "job", "moments"]

NEWEST = tables.VERDICTS_VERSION
NEW = {"2": ("p_value", "witnesses"), "3": ("region_lengths_px", "regions_mm")}


def parts(job: InspectJob) -> list[Path]:
    return sorted(Path(job.output, "verdicts").rglob("part-*.parquet"))


def make_older(parts: list[Path], version: str = "1") -> None:
    """Write parts again as a version had them."""
    schema = tables.VERDICTS_BY_VERSION[version]
    for part in parts:
        table = pq.ParquetFile(part).read()
        pq.write_table(table.select(schema.names).cast(schema), part, compression="zstd")


def versions(job: InspectJob) -> list[str]:
    """The version of each part, after a look at its whole schema."""
    found = []
    for part in parts(job):
        schema = pq.read_schema(part)
        version = schema.metadata[b"vqad.schema_version"].decode()
        assert schema.equals(tables.VERDICTS_BY_VERSION[version], check_metadata=True), part
        found.append(version)
    return found


@pytest.fixture
def older(job: InspectJob) -> InspectJob:
    """An output of version 1 in which some images have no verdict yet."""
    inspect(job, most_units=3)
    make_older(parts(job))
    assert 0 < len(runs(job)) < 16
    return job


def test_versions_only_grow_at_the_end_with_columns_that_may_be_null() -> None:
    assert list(tables.VERDICTS_BY_VERSION) == ["1", *NEW]
    for older, (version, newer) in pairwise(tables.VERDICTS_BY_VERSION.items()):
        assert newer.names == [*older[1].names, *NEW[version]]
        assert all(newer.field(name).nullable for name in NEW[version])
        assert tables.verdicts_version(newer) == version
        some = older[1].append(newer.field(NEW[version][0]))
        assert tables.verdicts_version(some) == older[0]
    assert tables.verdicts_version(tables.VERDICTS.remove(0)) is None


def test_a_new_output_has_the_new_columns(job: InspectJob) -> None:
    text = Path(job.archive) / "washer" / "test" / "good" / "text.png"
    text.write_bytes(b"no picture")
    inspect(job)
    assert set(versions(job)) == {tables.VERDICTS_VERSION}
    found = rows(job)
    for row in found:
        assert row["witnesses"] is None  # of the plain form
        assert row["regions_mm"] is None  # the detector knows no scale
        if row["verdict"] == "reject":
            assert row["p_value"] is row["region_lengths_px"] is None
            continue
        assert len(row["region_lengths_px"]) == len(row["regions"])
        # The scores of these images are recorded as those of the normal ones.
        others = [each["score"] for each in found if each["category"] == row["category"]]
        num_above = sum(each is not None and each >= row["score"] for each in others)
        assert row["p_value"] == pytest.approx((1 + num_above) / 9)
    assert sum(row["verdict"] == "reject" for row in found) == 1


def test_each_witness_s_share_is_written_in_the_order_of_the_detector(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Detector.inspect

    def with_shares(detector: Detector, batch: torch.Tensor, sources: Any) -> Inspection:
        shares = {"local statistics": 0.75, "surprisal": 0.25, "difference": 0.0}
        return replace(real(detector, batch, sources), shares=[shares] * len(batch))

    monkeypatch.setattr(Detector, "inspect", with_shares)
    inspect(job)
    named = [("local statistics", 0.75), ("surprisal", 0.25), ("difference", 0.0)]
    for row in rows(job):
        assert [(each["name"], each["share"]) for each in row["witnesses"]] == named


def test_a_run_goes_on_in_the_version_that_is_there_and_says_so(older: InspectJob) -> None:
    first = runs(older)
    plan = make_plan(older)
    assert plan.ledger.version == "1"
    lines = list(dry_run.describe(plan))
    assert lines[1] == (
        "verdicts of version 1 are there, and the run goes on in it; for the columns of version "
        f"{NEWEST} give a new --output"
    )
    inspect(older)
    assert set(versions(older)) == {"1"}
    found = runs(older)
    assert len(found) == 16
    assert {image: found[image] for image in first} == first
    assert make_plan(older).num_todo == 0


def test_redoing_and_moving_rows_keep_the_older_version_and_every_image(
    older: InspectJob, moments: list[Counter[str]]
) -> None:
    inspect(older)
    moments.clear()
    inspect(again(older, redo="all"), num_rows=5)
    assert set(versions(older)) == {"1"}
    assert all(len(seen) == 16 and set(seen.values()) == {1} for seen in moments)
    moments.clear()
    inspect(again(older, redo="all", routing=Routing(category="washer")))
    assert set(versions(older)) == {"1"}
    assert all(len(seen) == 16 for seen in moments)
    assert len(runs(older)) == 16


def test_a_run_killed_in_an_older_output_is_completed_by_the_next(
    older: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect(older)
    moved = again(older, redo="all", routing=Routing(category="washer"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sink, "remove_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            inspect(moved)
    assert max(Counter(row["image"] for row in rows(older)).values()) == 2
    inspect(older)
    assert len(runs(older)) == 16
    assert set(versions(older)) == {"1"}


def test_among_parts_of_both_versions_each_keeps_its_own(job: InspectJob) -> None:
    inspect(job)
    first, *others = parts(job)
    make_older([first])
    part = ledger.read(job.output).entries[rows(job)[-1]["image"]].part
    # Only some rows of a newer part are redone: the others keep their p-values.
    one = again(job, redo="all", archive=rows(job)[-1]["image"], routing=Routing(category="washer"))
    plan = inspect(one)
    assert plan.ledger.version == "1"
    assert versions(job) == ["1", *[NEWEST] * len(others)]
    redone = pq.ParquetFile(Path(job.output, "verdicts", part)).read().to_pylist()
    assert len({row["run"] for row in redone}) == 2
    assert all(row["p_value"] is not None for row in redone)
    # New parts have the oldest version: then no more parts come to differ from it.
    others[-1].unlink()
    inspect(job)
    assert Counter(versions(job)) == {"1": 2, NEWEST: len(others) - 1}
    assert len(runs(job)) == 16


def test_parts_of_a_later_program_are_not_written_to(job: InspectJob) -> None:
    inspect(job)
    (part, *_) = parts(job)
    table = pq.ParquetFile(part).read()
    later = {b"vqad.table": b"verdicts", b"vqad.schema_version": b"9"}
    pq.write_table(table.replace_schema_metadata(later), part)
    before = part.read_bytes()
    with pytest.raises(errors.ArchiveError) as caught:
        make_plan(again(job, redo="all"))
    assert str(caught.value) == (
        f"{part} has verdicts of version 9, this program knows 1 to {NEWEST}; use the program "
        "that wrote it, or give another --output"
    )
    assert part.read_bytes() == before


def _pandas(place: Path) -> list[dict[str, Any]]:
    return pd.read_parquet(place).to_dict("records")


def _pyarrow(place: Path) -> list[dict[str, Any]]:
    return pq.read_table(place).to_pylist()


def _duckdb(place: Path) -> list[dict[str, Any]]:
    return duckdb.sql(f"from read_parquet('{place}/**/*.parquet')").to_arrow_table().to_pylist()


def _polars(place: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(f"{place}/**/*.parquet").to_dicts()


def test_an_older_output_opens_whole_after_a_run_has_gone_on_in_it(older: InspectJob) -> None:
    inspect(older)
    for reader in (_pandas, _pyarrow, _duckdb, _polars):
        found = reader(Path(older.output, "verdicts"))
        assert sorted(row["image"] for row in found) == sorted(runs(older))


def _pandas_of_both(place: Path) -> list[dict[str, Any]]:
    return pd.read_parquet(place, schema=tables.VERDICTS).to_dict("records")


def _pyarrow_of_both(place: Path) -> list[dict[str, Any]]:
    return ds.dataset(place, schema=tables.VERDICTS).to_table().to_pylist()


def _duckdb_of_both(place: Path) -> list[dict[str, Any]]:
    query = f"from read_parquet('{place}/**/*.parquet', union_by_name = true)"
    return duckdb.sql(query).to_arrow_table().to_pylist()


def _polars_of_both(place: Path) -> list[dict[str, Any]]:
    schema = pl.Schema(pl.DataFrame(tables.VERDICTS.empty_table()).schema)
    pattern = f"{place}/**/*.parquet"
    return pl.scan_parquet(pattern, schema=schema, missing_columns="insert").collect().to_dicts()


OF_BOTH = (_pandas_of_both, _pyarrow_of_both, _duckdb_of_both, _polars_of_both)


@pytest.mark.parametrize("older", [0, -1])
def test_parts_of_several_versions_that_lie_in_one_folder_open_together(
    job: InspectJob, older: int
) -> None:
    inspect(job)
    part = parts(job)[older]  # readers take the columns of the first part, unless told otherwise
    make_older([part])
    make_older([parts(job)[1]], "2")
    assert sorted(set(versions(job))) == ["1", "2", NEWEST]
    num_older = [len(pq.ParquetFile(each).read()) for each in (part, parts(job)[1])]
    for reader in OF_BOTH:
        found = reader(Path(job.output, "verdicts"))
        assert sorted(row["image"] for row in found) == sorted(runs(job))
        p_values = np.array([row["p_value"] for row in found], float)
        assert np.isnan(p_values).sum() == num_older[0] > 0
        assert sum(row["region_lengths_px"] is None for row in found) == sum(num_older)


def test_an_evaluation_reads_both_versions(job: InspectJob, tmp_path: Path) -> None:
    inspect(job)
    expected = {row["image"] for row in rows(job) if row["category"] == "washer"}
    make_older(parts(job)[-1:])
    shutil.copytree(job.output, tmp_path / "copied")
    found = results.read_inspected(str(tmp_path / "copied"), "washer", expected)
    assert found.images == sorted(expected)
