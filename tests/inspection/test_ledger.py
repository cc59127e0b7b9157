"""Files among the tables that are not parts of them are reported, and no run ends by them."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.inspection_by_hand import again, home, inspect, job, rows, runs
from vqad import tables
from vqad.inspection import dry_run, ledger, sink
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan

__all__ = ["home", "job"]


def stray_files(output: Path) -> dict[str, str]:
    """Put files where parts of tables are; returns what is said of each."""
    fabric = output / "verdicts" / "fabric"
    (output / "verdicts" / "notes.txt").write_text("ours")
    whole = next(fabric.iterdir()).read_bytes()
    (output / "verdicts" / "part-0.parquet").write_bytes(whole)
    (output / "maps" / "fabric" / "notes.txt").write_text("ours")
    (output / "verdicts" / "self").symlink_to("self")
    (fabric / "other.parquet").write_bytes(whole)
    (fabric / "part-1.parquet").write_bytes(b"")
    (fabric / "part-2.parquet").write_bytes(whole[: len(whole) // 2])
    (fabric / "part-3.parquet").symlink_to("gone")
    pq.write_table(pa.table({"image": ["a"]}), fabric / "part-4.parquet")
    columns = {field.name: pa.nulls(1, pa.string()) for field in tables.VERDICTS}
    pq.write_table(pa.table(columns), fabric / "part-5.parquet")
    (output / "verdicts" / ".hidden").write_text("ours")
    named = "not a part of a table"
    return {
        "verdicts/notes.txt": named,
        "verdicts/part-0.parquet": named,
        "verdicts/self": named,
        "maps/fabric/notes.txt": named,
        "verdicts/fabric/other.parquet": named,
        "verdicts/fabric/part-1.parquet": "not a readable part of verdicts (ArrowInvalid)",
        "verdicts/fabric/part-2.parquet": "not a readable part of verdicts (ArrowInvalid)",
        "verdicts/fabric/part-3.parquet": "no such file or folder",
        "verdicts/fabric/part-4.parquet": "not a part of verdicts: its columns are others",
        "verdicts/fabric/part-5.parquet": "not a part of verdicts: its columns are others",
    }


def test_stray_files_are_reported_and_passed_over(job: InspectJob) -> None:
    inspect(job)
    expected = stray_files(Path(job.output))
    plan = make_plan(job)
    assert (plan.num_todo, plan.num_skipped) == (0, 16)
    found = dict(line.split(": ", 1) for line in plan.ledger.passed_over)
    assert found == {f"{job.output}/{path}": reason for path, reason in expected.items()}
    lines = list(dry_run.describe(plan))
    assert len(lines) == 7
    assert lines[0] == "0 images to inspect, 16 have their verdict already"
    assert lines[1].startswith(f"warning: passed over {job.output}/verdicts/")
    assert lines[-1] == "warning: passed over 5 more files in the tables"


def test_images_of_a_damaged_part_are_inspected_again_into_the_same_part(job: InspectJob) -> None:
    inspect(job)
    names = sink.parts(job.output, "verdicts")
    part = next((Path(job.output) / "verdicts" / "fabric").iterdir())
    num_rows = pq.ParquetFile(part).metadata.num_rows
    part.write_bytes(part.read_bytes()[:100])
    assert inspect(job).num_todo == num_rows
    assert sink.parts(job.output, "verdicts") == sink.parts(job.output, "maps") == names
    assert len(runs(job)) == 16
    assert ledger.read(job.output).passed_over == []


def test_a_damaged_part_of_maps_is_replaced_when_its_images_are_redone(job: InspectJob) -> None:
    inspect(job)
    part = next((Path(job.output) / "maps" / "fabric").iterdir())
    part.write_bytes(b"PAR1")
    inspect(again(job, redo="all"))
    assert len(rows(job, "maps")) == len(runs(job)) == 16


VERDICT = {
    "verdict": "reject",
    "regions": [],
    **dict.fromkeys(("error", "error_detail", "model_version", "source_etag", "run"), ""),
    "inspected_at": datetime(2026, 1, 1, tzinfo=UTC),
}


@settings(deadline=None, max_examples=50)
@given(categories=st.sets(st.text(min_size=1, max_size=300), min_size=1, max_size=4))
@example(categories={"..", ".", "/", "a/b", "\0", "x" * 300, "螺" * 35, "category=a", "part-1"})
def test_rows_of_any_categories_are_found_again(categories: set[str]) -> None:
    with tempfile.TemporaryDirectory() as output:
        for at, category in enumerate(sorted(categories)):
            row = {"image": f"file:///{at}.png", "category": category, **VERDICT}
            table = pa.Table.from_pylist([row], schema=tables.VERDICTS)
            version = tables.VERDICTS_VERSION
            sink.write_part(output, table, tables.MAPS.empty_table(), version=version)
        found = ledger.read(output)
        assert len(found.entries) == len(found.parts) == len(categories)
        assert found.passed_over == []
        columns = pd.read_parquet(f"{output}/verdicts")["category"]
        assert set(columns) == categories
        assert {each.name for each in Path(output).iterdir()} == {"verdicts"}


@pytest.mark.parametrize("more", [False, True])
def test_a_part_that_another_program_wrote_again_is_a_part(job: InspectJob, more: bool) -> None:
    inspect(job)
    for part in (Path(job.output) / "verdicts" / "fabric").iterdir():
        table = pq.ParquetFile(part).read().to_pandas()  # pandas makes texts large_string
        if more:
            table["p_value"] = 0.5
        table.to_parquet(part)
    plan = make_plan(job)
    assert (plan.num_todo, plan.num_skipped, plan.ledger.passed_over) == (0, 16, [])
    inspect(again(job, redo="all"))
    assert len(runs(job)) == 16
