"""The stages called by hand, without Ray: what a reader of the tables sees at every moment."""

import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.on_ray import made
from vqad import archives, leases, shards, tables
from vqad.on_ray import ledger, opened, sink, stages
from vqad.on_ray.plan import InspectJob, Plan, plan, units
from vqad.routing import Routing
from vqad.uris import encoded

CATEGORIES = ("fabric", "washer")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two categories and their detectors."""
    folder = tmp_path_factory.mktemp("stages")
    made.draw(folder / "archive", CATEGORIES)
    for category in CATEGORIES:
        made.save_detector(str(folder / "models"), category, str(folder / "archive"))
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
    """A run in this process, one unit after the other."""
    settled = plan(job)
    ledger.heal(job.output, settled.ledger)
    sink.remove_orphans(job.output)
    inspector = stages.Inspector(
        stages.InspectorOptions(
            models=job.models,
            versions=settled.versions,
            run=settled.run,
            batch_size=4,
            maps=job.maps,
            num_threads=1,
        )
    )
    for number, unit in enumerate(decoded(job, settled, num_rows)):
        if number == most_units:
            break
        stages.write(inspector.inspect(unit), output=job.output)
    return settled


def decoded(job: InspectJob, settled: Plan, num_rows: int) -> Iterator[pa.Table]:
    for unit in units(settled.todo, num_rows):
        yield stages.decode(unit, sizes_px=settled.sizes_px)
    for shard in settled.shards:
        yield from opened.read_shard(
            shard,
            output=job.output,
            holder="",
            include=job.include,
            sizes_px=settled.sizes_px,
            num_rows=num_rows,
        )


def rows(job: InspectJob, table: str = "verdicts") -> list[dict[str, Any]]:
    """As a reader finds them, sorted by image."""
    parts = sorted(Path(job.output, table).rglob("part-*.parquet"))
    found = [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]
    return sorted(found, key=lambda row: row["image"])


def runs(job: InspectJob) -> dict[str, str]:
    """The run of every verdict by image; one each."""
    found = rows(job)
    images = [row["image"] for row in found]
    assert len(set(images)) == len(images)
    return {row["image"]: row["run"] for row in found}


@pytest.fixture
def moments(job: InspectJob, monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """Verdicts by image as a reader would have found them after every single change."""
    seen: list[Counter[str]] = []

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any) -> None:
            change(*arguments)
            seen.append(Counter(row["image"] for row in rows(job)))

        return changed

    for name in ("write_bytes", "delete"):
        monkeypatch.setattr(archives, name, watched(getattr(archives, name)))
    return seen


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
    assert len(plan(again(job)).todo) == 0
    second = inspect(again(job, redo="changed"))
    changed = {image for image, run in runs(job).items() if run == second.run}
    assert changed == {(other / "000.png").as_uri()}
    made.save_detector(job.models, "fabric", job.archive)
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


def test_a_second_verdict_that_a_late_worker_left_goes_at_the_next_run(job: InspectJob) -> None:
    first = inspect(job)
    late = [row for row in rows(job) if row["category"] == "fabric"][:2]
    for row in late:
        row.update(inspected_at=row["inspected_at"] - timedelta(hours=1), run="late")
    table = pa.Table.from_pylist(late, schema=tables.VERDICTS)
    sink.write_part(job.output, table, tables.MAPS.empty_table())
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
    settled = plan(job)
    inspector = stages.Inspector(
        stages.InspectorOptions(
            models=job.models,
            versions=settled.versions,
            run=settled.run,
            batch_size=4,
            maps="all",
            num_threads=1,
        )
    )
    unit = inspector.inspect(next(decoded(job, settled, 4)))
    with leases.held(job.output, "theirs") as lease:
        with pytest.raises(leases.LeaseLostError, match=r"run theirs on .* has it"):
            stages.write(unit, output=job.output, holder="ours")
        assert rows(job) == []
        stages.write(unit, output=job.output, holder=lease.holder)
    assert len(rows(job)) == 4


def test_an_actor_keeps_detectors_within_a_bound_and_the_latest_used(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = plan(job)
    kept = stages.Kept(job.models, settled.versions, "cpu")
    first = kept.get("fabric")
    kept.get("washer")
    assert kept.get("fabric") is first
    assert list(kept.loaded) == ["washer", "fabric"]
    monkeypatch.setattr(stages, "LARGEST_KEPT_BYTES", 1)
    del kept.loaded["washer"]
    kept.get("washer")
    assert list(kept.loaded) == ["washer"]
    assert kept.get("fabric") is not first


# Shards.


def pictures(job: InspectJob) -> dict[str, bytes]:
    return {
        str(path.relative_to(job.archive)): path.read_bytes()
        for path in sorted(Path(job.archive).rglob("*/test/*/*.png"))
    }


def pack(path: Path, contents: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as tar:
        for name, data in contents:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


@pytest.fixture
def packed(job: InspectJob) -> InspectJob:
    """The same images, those of fabric in one shard and those of washer in another."""
    found = pictures(job)
    for category, ending in (("fabric", "tar"), ("washer", "tar.gz")):
        names = [name for name in found if name.startswith(category)]
        folder = Path(job.archive).parent / "packed"
        if category == "fabric":  # in folders of its own
            pack(folder / f"shard.{ending}", [(name, found[name]) for name in names])
        else:
            contents = [(name.rpartition("/")[2], found[name]) for name in names]
            pack(folder / "washer" / f"shard.{ending}", contents)
    return again(job, archive=str(folder))


def without_place(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("verdict", "category", "codes_changed", "width_px", "height_px")
    return {name: row[name] for name in kept}


def test_images_in_shards_get_the_verdicts_that_they_get_as_files(
    job: InspectJob, packed: InspectJob
) -> None:
    inspect(job)
    expected = Counter(str(without_place(row)) for row in rows(job))
    shutil.rmtree(job.output)
    inspect(packed)
    assert Counter(str(without_place(row)) for row in rows(packed)) == expected
    images = [row["image"] for row in rows(packed)]
    assert all(image.count("#") == 1 for image in images)
    assert sum("/washer/shard.tar.gz#0" in image for image in images) == 8


def test_a_shard_that_is_done_is_not_opened_again(
    packed: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect(packed)
    monkeypatch.delattr(shards, "members")
    settled = inspect(packed)
    assert (settled.num_todo, settled.num_skipped, settled.is_exact) == (0, 16, True)
    narrowed = plan(again(packed, include="*good*"))
    assert not narrowed.is_exact


def test_a_shard_that_was_left_half_way_is_completed(packed: InspectJob) -> None:
    first = inspect(packed, most_units=1)
    done = runs(packed)
    assert len(done) == 3
    second = inspect(packed, num_rows=4)
    assert second.num_skipped == 3
    found = runs(packed)
    assert len(found) == 16
    assert {image for image, run in found.items() if run == first.run} == set(done)


def test_redoing_shards_leaves_one_verdict_an_image_at_every_moment(
    packed: InspectJob, moments: list[Counter[str]]
) -> None:
    inspect(packed)
    names = sink.parts(packed.output, "verdicts")
    moments.clear()
    settled = inspect(again(packed, redo="all"), num_rows=5)
    assert settled.num_todo == 16
    assert set(runs(packed).values()) == {settled.run}
    assert sink.parts(packed.output, "verdicts") == names
    assert all(len(seen) == 16 and set(seen.values()) == {1} for seen in moments)


def test_a_limit_stops_inside_a_shard_and_the_next_run_goes_on(packed: InspectJob) -> None:
    for done in (5, 8, 13, 16):  # a shard is not begun before the one before it is read
        inspect(again(packed, limit=5))
        assert len(runs(packed)) == done
    assert plan(again(packed, limit=5)).num_todo == 0


def test_a_tar_cut_short_costs_one_row_which_goes_when_the_tar_is_whole(
    packed: InspectJob,
) -> None:
    path = Path(packed.archive) / "shard.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    inspect(packed)
    errors = {row["image"]: row["error"] for row in rows(packed) if row["error"]}
    assert errors == {path.as_uri(): "archive_truncated"}
    num_before = len(rows(packed))
    assert 8 + 1 < num_before < 16
    assert inspect(packed).num_todo == 0
    assert len(rows(packed)) == num_before
    path.write_bytes(whole)
    inspect(packed)
    assert not any(row["error"] for row in rows(packed))
    assert len(runs(packed)) == 16


def test_every_odd_and_every_bad_member_gets_its_row(packed: InspectJob) -> None:
    folder = Path(packed.archive).parent / "odd"
    expected = made.odd_files(folder)
    del expected["link.png"]
    contents = [(f"fabric/{name}", (folder / name).read_bytes()) for name in expected]
    shutil.rmtree(packed.archive)
    path = pack(Path(packed.archive) / "x.tar", [*contents, contents[-1]])
    with tarfile.open(path, "a") as tar:
        for name, kind in (("../out.png", tarfile.REGTYPE), ("link.png", tarfile.SYMTYPE)):
            header = tarfile.TarInfo(name)
            header.type = kind
            tar.addfile(header)
    inspect(again(packed, routing=Routing(category="fabric")))
    found = {row["image"].rpartition("#")[2]: row["error"] for row in rows(packed)}
    named = {f"fabric/{name}": error for name, error in expected.items()}
    last = contents[-1][0]
    assert {name: found[encoded(name)] for name in named} == named
    assert found[f"{encoded(last)};2"] == named[last]
    assert found["../out.png"] == found["link.png"] == "unsupported"
    assert len(found) == len(named) + 3


def test_a_shard_is_never_decoded_ahead_of_who_takes_its_units(
    packed: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    members = shards.members

    def noted(*arguments: Any, **options: Any) -> Iterator[shards.Member]:
        for each in members(*arguments, **options):
            read.append(each.image)
            yield each

    monkeypatch.setattr(shards, "members", noted)
    taken = decoded(packed, plan(packed), 3)
    for number in (3, 6):
        assert len(next(taken)) == 3
        assert len(read) == number


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
    assert len(plan(inside).shards) == 0
    assert pc.sum(pc.is_valid(pa.array([row["score"] for row in rows(inside)]))).as_py() == 16
