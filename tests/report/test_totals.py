"""Counts over all rows of an output."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import drawn_night
from tests.support.drawn_night import Image
from vqad import tables
from vqad.report.job import ReportJob
from vqad.report.survey import survey
from vqad.report.totals import NUM_BINS, Totals, histogram
from vqad.storage import output_layout
from vqad.storage.errors import ArchiveError


def test_the_totals_of_parts_are_those_of_the_table(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    rows = drawn_night.write_night(tmp_path / "archive", output)
    found = survey(ReportJob(output=output, cards=2)).totals
    assert found.images == len(rows) == 15
    assert {each: found.count(each) for each in ("defect", "normal", "reject")} == {
        "defect": 7,
        "normal": 7,
        "reject": 1,
    }
    assert found.errors == {"unreadable": 1}
    assert found.runs == {drawn_night.RUN: 14, drawn_night.OLDER_RUN: 1}
    bolt = found.by_category["bolt"]
    assert (bolt.images, bolt.verdicts["defect"]) == (12, 6)
    assert bolt.scores.sum() == 12


def test_a_score_at_the_threshold_is_counted_below_it() -> None:
    found = histogram(np.array([0.0, 1.0, 1.0001, 3.0, 3.0001, np.inf, np.nan]))
    assert np.flatnonzero(found).tolist() == [0, 9, 10, 29, 30]
    assert found[30] == 2
    assert len(found) == NUM_BINS


def test_an_output_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Its verdicts have no columns of witnesses and p-values."""
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output)
    for path in Path(output, "verdicts").glob("*/*.parquet"):
        pq.write_table(pq.read_table(path).select(tables.VERDICTS_BY_VERSION["1"].names), path)
    found = survey(ReportJob(output=output))
    assert found.totals.images == 15
    assert {row["witnesses"] for row in found.rows} == {None}


def test_witnesses_are_read_where_they_are(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output, [Image(name="bolt/1.png", score=30.0)])
    (path,) = Path(output, "verdicts").glob("*/*.parquet")
    (found,) = pq.read_table(path).to_pylist()
    found |= {"witnesses": [{"name": "surprisal", "share": 0.75}], "p_value": 0.25}
    pq.write_table(pa.Table.from_pylist([found], schema=tables.VERDICTS), path)
    (row,) = survey(ReportJob(output=output)).rows
    assert row["witnesses"] == [{"name": "surprisal", "share": 0.75}]
    assert row["p_value"] == 0.25


def test_a_damaged_part_is_passed_over_and_named(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    drawn_night.write_night(tmp_path / "archive", output)
    part = output_layout.part(output, "verdicts", "nut/part-0.parquet")
    Path(part).write_bytes(b"PAR1 no table")
    found = survey(ReportJob(output=output))
    assert found.damaged == ["nut/part-0.parquet"]
    assert found.totals.images == 15


def test_an_output_without_verdicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="has no verdicts; inspect an archive into it first"):
        survey(ReportJob(output=str(tmp_path)))


def test_of_two_rows_of_an_image_the_later_one_gets_a_card(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    (row,) = drawn_night.write_night(
        tmp_path / "archive", output, [Image(name="bolt/1.png", score=30.0)]
    )
    later = row | {"category": "nut", "inspected_at": drawn_night.AT.replace(year=2027)}
    table = pa.Table.from_pylist([later], schema=tables.VERDICTS)
    drawn_night.sink.write_part(output, table, tables.MAPS.empty_table(), version="2")
    found = survey(ReportJob(output=output))
    assert [each["category"] for each in found.rows] == ["nut"]


def test_empty_totals_have_no_images() -> None:
    assert Totals().images == 0
