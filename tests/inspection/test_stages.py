"""The stages without Ray: the tables are right after every single write."""

import shutil
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.support import small_detectors
from tests.support.inspection_by_hand import (
    again,
    decoded,
    home,
    inspect,
    inspector_of,
    job,
    moments,
    rows,
    runs,
)
from tests.support.random_detectors import detector_of
from vqad import tables
from vqad.images.routing import Routing
from vqad.inspection import batches, detector_cache, ledger, sink, stages
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.on_ray import inspect as inspection
from vqad.on_ray import session
from vqad.storage import lease

__all__ = ["home", "job", "moments"]


def test_redoing_all_leaves_one_verdict_an_image_at_every_moment(
    job: InspectJob, moments: list[Counter[str]]
) -> None:
    first = inspect(job)
    names = sink.parts(job.output, "verdicts")
    assert set(runs(job).values()) == {first.run}
    moments.clear()
    second = inspect(again(job, redo="all"), num_rows=5)
    assert set(runs(job).values()) == {second.run}
    assert sink.parts(job.output, "verdicts") == sink.parts(job.output, "maps") == names
    assert len(moments) == 2 * len(names)
    assert all(len(seen) == 16 and set(seen.values()) == {1} for seen in moments)
    assert len(rows(job, "maps")) == 16


def test_redoing_what_changed_redoes_that_alone(job: InspectJob) -> None:
    first = inspect(job)
    other = Path(job.archive) / "washer" / "test" / "good"
    shutil.copy(other / "001.png", other / "000.png")
    assert len(make_plan(again(job)).todo) == 0
    second = inspect(again(job, redo="changed"))
    changed = {image for image, run in runs(job).items() if run == second.run}
    assert changed == {(other / "000.png").as_uri()}
    small_detectors.save_detector(job.models, "fabric", job.archive)
    third = inspect(again(job, redo="changed"))
    found = runs(job)
    assert {image for image, run in found.items() if run == third.run} == {
        image for image in found if "/fabric/" in image
    }
    assert Counter(found.values()) == {first.run: 7, second.run: 1, third.run: 8}
    assert inspect(again(job, redo="changed")).num_todo == 0


def test_what_the_store_withheld_is_asked_for_again_when_redoing_what_changed(
    job: InspectJob,
) -> None:
    place = Path(job.archive) / "fabric" / "test" / "good" / "000.png"
    place.rename(place.with_suffix(".kept"))
    place.symlink_to("nowhere")
    inspect(job)
    assert [row["error"] for row in rows(job) if row["error"]] == ["missing"]
    assert inspect(job).num_todo == 0
    assert inspect(again(job, redo="changed")).num_todo == 1
    place.unlink()
    place.with_suffix(".kept").rename(place)
    inspect(again(job, redo="changed"))
    assert not any(row["error"] for row in rows(job))


def test_maps_no_longer_wanted_go_with_the_rows_they_belong_to(job: InspectJob) -> None:
    inspect(job)
    assert len(rows(job, "maps")) == 16
    inspect(again(job, redo="all", maps="defect"))
    defects = [row["image"] for row in rows(job) if row["verdict"] == "defect"]
    assert [row["image"] for row in rows(job, "maps")] == defects
    inspect(again(job, redo="all", maps="none"))
    assert rows(job, "maps") == []
    assert len(runs(job)) == 16


def test_an_image_of_another_category_now_moves_and_is_never_missing(
    job: InspectJob, moments: list[Counter[str]]
) -> None:
    inspect(job)
    moments.clear()
    inspect(again(job, redo="all", routing=Routing(category="washer")))
    assert {row["category"] for row in rows(job)} == {"washer"}
    assert len(runs(job)) == 16
    assert all(len(seen) == 16 for seen in moments)
    assert {part.partition("/")[0] for part in sink.parts(job.output, "verdicts")} == {"washer"}


def test_a_run_killed_while_it_moves_an_image_leaves_two_rows_that_the_next_makes_one(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = inspect(job)
    moved = again(job, redo="all", routing=Routing(category="washer"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sink, "remove_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            inspect(moved)
    twice = Counter(row["image"] for row in rows(job))
    assert set(twice.values()) == {1, 2}
    plan = make_plan(job)
    latest = {image: entry for image, entry in plan.ledger.entries.items() if twice[image] == 2}
    assert {entry.part.partition("/")[0] for entry in latest.values()} == {"washer"}
    inspect(job)  # it has nothing to inspect, and still removes the older rows
    assert set(Counter(row["image"] for row in rows(job)).values()) == {1}
    kept = {row["image"]: row for row in rows(job)}
    assert all(kept[image]["run"] != first.run for image in latest)
    assert len(rows(job, "maps")) == 16


def test_a_second_verdict_that_a_late_worker_left_goes_at_the_next_run(job: InspectJob) -> None:
    first = inspect(job)
    late = [row for row in rows(job) if row["category"] == "fabric"][:2]
    for row in late:
        row.update(inspected_at=row["inspected_at"] - timedelta(hours=1), run="late")
    table = pa.Table.from_pylist(late, schema=tables.VERDICTS)
    maps = tables.MAPS.empty_table()
    sink.write_part(job.output, table, maps, version=tables.VERDICTS_VERSION)
    assert len(rows(job)) == 18
    assert sum(map(len, ledger.read(job.output).superseded.values())) == 2
    inspect(job)
    assert set(runs(job).values()) == {first.run}


def test_a_run_that_is_cut_off_is_completed_and_nothing_done_twice(job: InspectJob) -> None:
    first = inspect(job, most_units=2)
    done = runs(job)
    assert 0 < len(done) < 16
    second = inspect(job)
    assert second.num_skipped == len(done)
    found = runs(job)
    assert len(found) == 16
    assert {image for image, run in found.items() if run == first.run} == set(done)


def test_without_the_lease_nothing_is_written(job: InspectJob) -> None:
    plan = make_plan(job)
    unit = inspector_of(job, plan).inspect(next(decoded(job, plan, 4)))
    writing = {"output": job.output, "version": tables.VERDICTS_VERSION}
    with lease.held(job.output, "theirs") as theirs:
        with pytest.raises(lease.LeaseLostError, match=r"run theirs on .* has it"):
            stages.write(unit, **writing, holder="ours")
        assert rows(job) == []
        stages.write(unit, **writing, holder=theirs.holder)
    assert len(rows(job)) == 4


def test_an_actor_keeps_detectors_within_a_bound_and_the_latest_used(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(job)
    kept = detector_cache.DetectorCache(job.models, plan.versions, "cpu")
    first = kept.get("fabric")
    kept.get("washer")
    assert kept.get("fabric") is first
    assert list(kept.loaded) == ["washer", "fabric"]
    monkeypatch.setattr(detector_cache, "LARGEST_CACHED_BYTES", 1)
    del kept.loaded["washer"]
    kept.get("washer")
    assert list(kept.loaded) == ["washer"]
    assert kept.get("fabric") is not first


@pytest.mark.parametrize(
    ("gpus", "cluster", "num_actors"),
    [
        (0.0, {"num_cpus": 8, "memory_bytes": 2**40}, 8),
        (0.0, {"num_cpus": 8, "memory_bytes": 7 * 2**30}, 3),
        (0.0, {"num_cpus": 2, "memory_bytes": 2**20}, 1),
        (1.0, {"num_gpus": 3.0}, 3),
        (0.25, {"num_gpus": 2.0}, 8),
        (0.7, {"num_gpus": 1.0}, 1),
    ],
)
def test_an_actor_a_share_of_a_gpu_else_a_cpu_where_memory_allows(
    monkeypatch: pytest.MonkeyPatch, gpus: float, cluster: dict[str, float], num_actors: int
) -> None:
    for name, value in cluster.items():
        monkeypatch.setattr(session, name, lambda value=value: value)
    assert inspection._num_actors(gpus) == num_actors


def test_no_actor_is_started_for_which_there_is_no_unit() -> None:
    files = [inspection._num_with_work(4, number, has_shards=False) for number in (1, 3, 40)]
    assert files == [1, 3, 4]
    assert inspection._num_with_work(4, 1, has_shards=True) == 4  # it may become many units


@pytest.mark.parametrize(
    ("gpus", "most_cpus", "share"), [(1.0, 8, 1.0), (0.5, 2, 0.25), (0.0, 64, 0.25)]
)
def test_a_node_with_gpus_has_no_more_decoding_tasks_than_cpus(
    monkeypatch: pytest.MonkeyPatch, gpus: float, most_cpus: int, share: float
) -> None:
    monkeypatch.setattr(session, "most_cpus", lambda: most_cpus)
    assert inspection._cpus_per_decoder(gpus) == share


def test_files_and_shards_of_the_output_and_the_models_are_not_of_the_archive(
    job: InspectJob,
) -> None:
    inside = again(
        job,
        archive=str(Path(job.archive).parent),
        routing=Routing(category_pattern="([a-z]+)/test"),
    )
    inspect(inside)
    assert len(runs(inside)) == 16
    assert len(make_plan(inside).shards) == 0
    assert pc.sum(pc.is_valid(pa.array([row["score"] for row in rows(inside)]))).as_py() == 16


def test_values_of_a_camera_with_twelve_bits_reach_the_detector_in_the_whole_range() -> None:
    values = np.array([0, 2047, 4095, 60000], np.uint16)
    settings = detector_of().settings
    pixels = np.resize(np.repeat(values, 3), (16, 16, 3))
    row = {"pixels": pixels.tobytes(), "bits": 16}
    settings = detector_of().settings
    twelve = batches.batch_of([row], replace(settings, bits=12))
    expected = [0, 2047 / 4095, 1, 1]  # what is brighter than the camera's range is clipped
    assert twelve[0, 0, 0, :4].tolist() == pytest.approx(expected, abs=1e-4)
    old = batches.batch_of([row], settings)
    assert old[0, 0, 0, :4].tolist() == pytest.approx((values / 65535).tolist(), abs=1e-6)
