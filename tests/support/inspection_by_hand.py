"""Runs without Ray: the stages are called one after the other in this process."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import small_detectors
from vqad.inspection import ledger, shard_stage, sink, stages
from vqad.inspection.inspector import Inspector, InspectorOptions
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import Plan, make_plan, units
from vqad.storage import files

CATEGORIES = ("fabric", "washer")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two categories and their detectors."""
    folder = tmp_path_factory.mktemp("stages")
    small_detectors.draw(folder / "archive", CATEGORIES)
    for category in CATEGORIES:
        small_detectors.save_detector(str(folder / "models"), category, str(folder / "archive"))
    return folder


@pytest.fixture
def job(home: Path, tmp_path: Path) -> InspectJob:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    return job_at(tmp_path)


def job_at(home: Path, **options: Any) -> InspectJob:
    places = {name: str(home / name) for name in ("archive", "models", "output")}
    return InspectJob(**places, **options)


def again(job: InspectJob, **options: Any) -> InspectJob:
    return InspectJob(**{**vars(job), **options})


def inspect(job: InspectJob, *, num_rows: int = 3, most_units: int = 999) -> Plan:
    """Do a run in this process, unit by unit, and stop after ``most_units``."""
    plan = make_plan(job)
    ledger.remove_superseded(job.output, plan.ledger)
    sink.remove_orphans(job.output)
    inspector = inspector_of(job, plan)
    for number, unit in enumerate(decoded(job, plan, num_rows)):
        if number == most_units:
            break
        unit = inspector.inspect(unit)
        stages.write(unit, output=job.output, version=plan.ledger.version)
    return plan


def inspector_of(job: InspectJob, plan: Plan) -> Inspector:
    return Inspector(
        InspectorOptions(
            models=job.models,
            versions=plan.versions,
            run=plan.run,
            batch_size=4,
            maps=job.maps,
            num_threads=1,
            shadows=plan.shadows.versions,
        )
    )


def decoded(job: InspectJob, plan: Plan, num_rows: int) -> Iterator[pa.Table]:
    for unit in units(plan.todo, num_rows, plan.forms):
        yield stages.decode(unit, forms=plan.forms)
    for shard in plan.shards:
        yield from shard_stage.read_shard(
            shard,
            output=job.output,
            holder="",
            include=job.include,
            forms=plan.forms,
            num_rows=num_rows,
        )


def rows(job: InspectJob, table: str = "verdicts") -> list[dict[str, Any]]:
    """All rows of a table, sorted by image."""
    parts = sorted(Path(job.output, table).rglob("part-*.parquet"))
    found = [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]
    return sorted(found, key=lambda row: row["image"])


def runs(job: InspectJob) -> dict[str, str]:
    """The run of each image's only verdict."""
    found = rows(job)
    images = [row["image"] for row in found]
    assert len(set(images)) == len(images)
    return {row["image"]: row["run"] for row in found}


@pytest.fixture
def moments(job: InspectJob, monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """The number of verdicts per image, noted after every single change of the output."""
    seen: list[Counter[str]] = []

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any) -> None:
            change(*arguments)
            seen.append(Counter(row["image"] for row in rows(job)))

        return changed

    for name in ("write_bytes", "delete"):
        monkeypatch.setattr(files, name, watched(getattr(files, name)))
    return seen
