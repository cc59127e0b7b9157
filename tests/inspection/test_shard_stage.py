"""Images in shards get the verdicts that they get as files, and each gets one."""

import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_detectors
from tests.support.inspection_by_hand import again, decoded, home, inspect, job, moments, rows, runs
from vqad.detector import Detector
from vqad.images import shards
from vqad.images.routing import Routing
from vqad.inspection import shard_records, sink
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.storage.uris import encoded

__all__ = ["home", "job", "moments"]


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
    plan = inspect(packed)
    assert (plan.num_todo, plan.num_skipped, plan.num_unread_shards) == (0, 16, 0)
    narrowed = make_plan(again(packed, include="*good*"))
    assert narrowed.num_unread_shards == 2


def test_a_shard_without_images_is_not_opened_again(
    packed: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(packed.archive)
    pack(Path(packed.archive) / "texts.tar", [("fabric/notes.txt", b"no picture")])
    assert inspect(packed).num_unread_shards == 1
    monkeypatch.delattr(shards, "members")
    plan = inspect(packed)
    assert (plan.num_todo, plan.num_skipped, plan.num_unread_shards) == (0, 0, 0)
    assert not plan.has_work


def test_other_members_of_a_tar_are_counted_by_suffix_also_by_later_runs(
    packed: InspectJob,
) -> None:
    shutil.rmtree(packed.archive)
    path = Path(packed.archive) / "texts.tar"
    names = ["fabric/a.tga", "fabric/B.TGA", "notes", "fabric/.hidden.tga", "ground_truth/m.tga"]
    pack(path, [(name, b"no picture") for name in names])
    plan = inspect(packed)
    assert not plan.left_out  # the shard is still to be read
    listed = [each.listed for each in plan.shards]
    (record,) = shard_records.read(packed.output, listed, include=None).values()
    assert (record.images, record.left_out) == ({}, {".tga": 2, "": 1})
    assert shard_records.read(packed.output, listed, include="*.png") == {}
    assert make_plan(packed).left_out == {".tga": 2, "": 1}
    narrowed = again(packed, include="texts.tar/fabric/*")
    inspect(narrowed)
    assert make_plan(narrowed).left_out == {".tga": 2}


def test_a_damaged_record_of_a_shard_costs_one_more_reading(packed: InspectJob) -> None:
    inspect(packed)
    records = sorted((Path(packed.output) / "shards").iterdir())
    assert len(records) == 2
    records[0].write_bytes(b"[]")
    plan = inspect(packed)
    assert (plan.num_todo, plan.num_unread_shards) == (0, 1)
    assert inspect(packed).num_unread_shards == 0


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
    plan = inspect(again(packed, redo="all"), num_rows=5)
    assert plan.num_todo == 16
    assert set(runs(packed).values()) == {plan.run}
    assert sink.parts(packed.output, "verdicts") == names
    assert all(len(seen) == 16 and set(seen.values()) == {1} for seen in moments)


def test_a_limit_stops_inside_a_shard_and_the_next_run_goes_on(packed: InspectJob) -> None:
    for done in (5, 8, 13, 16):  # a shard is not begun before the one before it is read
        inspect(again(packed, limit=5))
        assert len(runs(packed)) == done
    assert make_plan(again(packed, limit=5)).num_todo == 0


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
    expected = small_detectors.odd_files(folder)
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


def test_odd_names_of_folders_cost_no_other_member_a_row(packed: InspectJob) -> None:
    picture = next(iter(pictures(again(packed, archive=f"{packed.archive}/../archive")).values()))
    names = ["fabric/1.png", "washer/2.png", "/fabric/3.png", ".//4.png", "t\udce4st/5.png"]
    names += [f"{'x' * 300}/6.png", f"{'螺' * 35}/7.png", "Größe 螺丝/8.png", "fabric/9.png"]
    shutil.rmtree(packed.archive)
    pack(Path(packed.archive) / "a.tar", [(name, picture) for name in names])
    inspect(packed)
    found = {row["image"].rpartition("#")[2]: row for row in rows(packed)}
    assert set(found) == {encoded(name).removeprefix("./") for name in names}
    categories = [found[encoded(name).removeprefix("./")]["category"] for name in names]
    assert categories == [
        *("fabric", "washer", "fabric", "_unknown", "_unknown"),
        *("x" * 300, "螺" * 35, "Größe 螺丝", "fabric"),
    ]
    assert [row["image"] for row in rows(packed) if row["verdict"] != "reject"] == [
        f"{Path(packed.archive).as_uri()}/a.tar#{name}"
        for name in ("fabric/1.png", "fabric/9.png", "washer/2.png")
    ]
    assert {len(part.split("/")) for part in sink.parts(packed.output, "verdicts")} == {2}
    again_plan = inspect(packed)
    assert (again_plan.num_todo, again_plan.num_skipped) == (0, len(names))


def test_a_detector_of_any_category_inspects_the_members_of_its_folder(packed: InspectJob) -> None:
    category = "螺" * 35 + "丝" * 80
    found = pictures(again(packed, archive=f"{packed.archive}/../archive"))
    Detector.load(packed.models, "fabric").with_settings(category=category).save(packed.models)
    shutil.rmtree(packed.archive)
    members = [(f"{category}/{at}.png", data) for at, data in enumerate(found.values())]
    pack(Path(packed.archive) / "a.tar", members)
    plan = inspect(packed)
    assert plan.versions.keys() == {"fabric", "washer", category}
    assert {(row["category"], row["error"]) for row in rows(packed)} == {(category, "")}


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
    taken = decoded(packed, make_plan(packed), 3)
    for number in (3, 6):
        assert len(next(taken)) == 3
        assert len(read) == number
