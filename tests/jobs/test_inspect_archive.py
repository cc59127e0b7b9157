"""`vqad inspect` where it needs no Ray: dry runs, an output in use, a lease lost, a full disk."""

import errno
import json
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Ended
from tests.support.inspection_by_hand import again, home, inspect, job, rows
from vqad.detection import weights
from vqad.inspection.job import InspectJob
from vqad.storage import lease
from vqad.storage.errors import ArchiveError

__all__ = ["home", "job"]

Vqad = Callable[..., Ended]


def line(job: InspectJob, *more: str) -> list[str]:
    places = ("--archive", job.archive, "--models", job.models, "--output", job.output)
    return ["inspect", *places, *more]


def everything_below(folder: str) -> dict[str, bytes]:
    paths = Path(folder).rglob("*")
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def test_a_dry_run_says_what_would_be_done_and_how_long_and_does_nothing(
    job: InspectJob, vqad: Vqad
) -> None:
    ended = vqad(*line(job, "--dry-run"))
    assert ended.code == 0
    seconds = ended.summary.pop("seconds")
    assert 0 < seconds < 60
    counts = {"listed": 16, "skipped": 0, "images": 16, "unread_shards": 0, "dry_run": True}
    assert {name: ended.summary[name] for name in counts} == counts
    assert "16 images to inspect, 0 have their verdict already" in ended.err
    assert "fabric: 8 images by 20" in ended.err
    assert " s, at the rate of one CPU core of this machine" in ended.err
    assert not Path(job.output).exists()


def test_a_dry_run_counts_by_the_ledger_and_by_how_fast_the_last_runs_were(
    job: InspectJob, vqad: Vqad
) -> None:
    inspect(job, most_units=2)
    record = Path(job.output, "runs", "20260101T000000Z-00000000.json")
    record.parent.mkdir()
    record.write_text(json.dumps({"images": 10, "seconds": 50.0}))
    before = everything_below(job.output)
    summary = vqad(*line(job, "--dry-run")).summary
    num_done = len(rows(job))
    assert 0 < num_done < 16
    assert (summary["images"], summary["skipped"]) == (16 - num_done, num_done)
    assert summary["seconds"] == 5.0 * (16 - num_done)
    assert everything_below(job.output) == before


def test_what_is_left_out_and_passed_over_is_in_the_summary_and_the_record(
    job: InspectJob, vqad: Vqad
) -> None:
    inspect(job)  # so that nothing is left to do, and no Ray needed
    for name in ("1.tga", "2.TGA", "fabric/scan.ppm", "README"):
        Path(job.archive, name).write_bytes(b"not read")
    Path(job.output, "verdicts", "notes.txt").write_text("ours")
    Path(job.output, "verdicts", "fabric", "part-0.parquet").write_bytes(b"")
    ended = vqad(*line(job))
    assert ended.code == 0
    summary = ended.summary
    counted = {".tga": 2, ".ppm": 1, "": 1}
    assert (summary["listed"], summary["skipped"], summary["images"]) == (16, 16, 0)
    assert summary["left_out"] == counted
    said = ended.err.splitlines()
    assert "left out by suffix: 4 other files (.tga 2, no suffix 1, .ppm 1)" in said[1]
    record = json.loads(Path(job.output, "run.json").read_bytes())
    assert record["left_out"] == counted
    assert record["passed_over"] == [
        f"file://{job.output}/verdicts/notes.txt: not a part of a table",
        f"file://{job.output}/verdicts/fabric/part-0.parquet: "
        "not a readable part of verdicts (ArrowInvalid)",
    ]
    assert [each.removeprefix("warning: passed over ") for each in said[2:4]] == record[
        "passed_over"
    ]
    assert (record["compared_with_runs"], record["not_compared"]) == ([], {})


def test_an_archive_without_images_says_what_it_has(job: InspectJob, vqad: Vqad) -> None:
    shutil.rmtree(job.archive)
    Path(job.archive).mkdir()
    for at in range(12):
        Path(job.archive, f"1.s{at:02}").touch()
    ended = vqad(*line(job))
    assert (ended.code, ended.out) == (2, "")
    named = ", ".join(f".s{at:02} 1" for at in range(10))
    assert f"no images in file://{job.archive}, but 12 other files ({named}, others 2)" in ended.err


def test_a_dry_run_opens_no_shard_and_says_that_it_knows_less(job: InspectJob, vqad: Vqad) -> None:
    with tarfile.open(Path(job.archive, "fabric", "more.tar"), "w") as tar:
        tar.add(Path(job.archive, "fabric", "test", "good", "000.png"), "1.png")
    ended = vqad(*line(job, "--dry-run"))
    assert (ended.summary["images"], ended.summary["unread_shards"]) == (16, 1)
    assert "16 images to inspect, and those in 1 shard, 0 have their verdict" in ended.err
    assert "/fabric/more.tar: some images" in ended.err
    assert ended.err.rstrip().endswith("without the images in unread shards")


def tampered(category: Path, version: str) -> None:
    (category / version / "prior.safetensors").write_bytes(pickle.dumps("no weights"))


def oversized(category: Path, version: str) -> None:
    with (category / version / "detector.json").open("ab") as file:
        file.truncate(weights.LARGEST_JSON_BYTES + 1)


def anothers(category: Path, version: str) -> None:
    shutil.rmtree(category)
    shutil.copytree(category.with_name("washer"), category)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (tampered, r".*/prior.safetensors does not match its recorded hash and size; restore it"),
        (oversized, r".*/detector.json: 16777217 bytes, more than 16777216$"),
        (
            anothers,
            r".*/models/fabric/.* contains a detector of washer, version .*; move the folder",
        ),
    ],
)
def test_what_is_no_detector_of_the_category_is_refused_with_exit_code_2(
    job: InspectJob, vqad: Vqad, spoil: Callable[[Path, str], None], said: str
) -> None:
    fabric = Path(job.models, "fabric")
    spoil(fabric, json.loads((fabric / "current.json").read_bytes())["version"])
    ended = vqad(*line(job))
    assert (ended.code, ended.out) == (2, "")
    (only,) = ended.err.splitlines()
    assert re.match(f"vqad inspect: {said}", only), only
    assert not Path(job.output).exists()


def test_an_output_in_use_is_refused_with_exit_code_2_naming_the_other_run(
    job: InspectJob, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LIFE_S", 0.3)
    monkeypatch.setattr(lease, "LOOKED_AT_EVERY_S", 0.05)
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.05)
    with lease.held(job.output, "first"):
        ended = vqad(*line(job))
    assert (ended.code, ended.out) == (2, "")
    (said,) = ended.err.splitlines()
    assert said.startswith(f"vqad inspect: file://{job.output} is in use by run first on ")
    assert said.endswith("; wait until that run ends, or give another --output")
    assert not Path(job.output, "verdicts").exists()


def test_a_lost_lease_ends_with_exit_code_1_and_no_record_of_the_run(
    job: InspectJob, vqad: Vqad, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect(job)  # so that nothing is left to do, and no Ray needed

    def taken(self: lease.Lease) -> None:
        raise lease.LeaseLostError("the lease on it is lost: run second has taken it over")

    monkeypatch.setattr(lease.Lease, "check", taken)
    ended = vqad(*line(job))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == (
        "vqad inspect: the lease on it is lost: run second has taken it over"
    )
    assert not Path(job.output, "run.json").exists()


def test_a_full_disk_ends_the_run_in_one_line_and_the_next_one_completes_it(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_written = 0

    def full(_: int) -> None:
        nonlocal num_written
        num_written += 1
        if num_written > 3:  # a part of each table, and the next one's maps
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ArchiveError, match=r"/part-.*: no space left on device; check the d"):
            inspect(job)
    assert 0 < len(rows(job)) < 16
    assert not list(Path(job.output).rglob(".writing-*"))
    inspect(again(job))
    images = [row["image"] for row in rows(job)]
    assert len(images) == len(set(images)) == len(rows(job, "maps")) == 16
