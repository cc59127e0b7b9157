"""A second detector judges the same decoded images, and its table never gets out of step."""

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.__main__ import main
from tests.support import inspection_by_hand
from tests.support.inspection_by_hand import again, home, inspect, job, rows
from vqad.detection.weights import DetectorError
from vqad.detector import Detector
from vqad.images import decoding
from vqad.inspection import ledger, shadow, shadow_comparison, sink, stages, summary
from vqad.inspection.job import InspectJob
from vqad.inspection.plan import make_plan
from vqad.inspection.summary import InspectSummary
from vqad.storage import files, output_layout

__all__ = ["home", "job"]  # fixtures


class KilledError(BaseException):
    """Ends a run in the middle, as a kill would: nothing catches it."""


def save_other(job: InspectJob, category: str, threshold: float = 0.0) -> str:
    """Save a version that calls images defective which the one in force does not."""
    detector = Detector.load(job.models, category)
    return detector.with_settings(threshold=threshold).save(job.models, promote=False)


def shadow_rows(job: InspectJob) -> list[dict[str, Any]]:
    return rows(again(job, output=output_layout.shadow(job.output), shadow=()))


def by_image(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({row["image"] for row in found}) == len(found), "an image has two rows"
    return {row["image"]: row for row in found}


_OF_THE_RUN = ("inspected_at", "run")


def without_run(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        image: {name: each for name, each in row.items() if name not in _OF_THE_RUN}
        for image, row in found.items()
    }


def test_both_tables_have_what_each_detector_says_by_itself(job: InspectJob) -> None:
    version = save_other(job, "fabric")
    both = again(job, shadow=(f"fabric={version}",))
    inspect(both)
    alone = again(job, output=job.output + "-alone")
    inspect(alone)
    assert without_run(by_image(rows(both))) == without_run(by_image(rows(alone)))
    second = by_image(shadow_rows(both))
    assert {row["category"] for row in second.values()} == {"fabric"}
    assert {row["model_version"] for row in second.values()} == {version}
    # The same as a night with that version in force.
    promoted = again(job, output=job.output + "-promoted")
    shadow.versions.promote(job.models, "fabric", version, who="ann", why="")
    inspect(promoted)
    own = {image: row for image, row in by_image(rows(promoted)).items() if image in second}
    assert without_run(second) == without_run(own)
    assert len(second) == 8


def test_each_file_is_read_and_decoded_once_for_both(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    count: Counter[str] = Counter()
    read, decode = files.read_bytes, decoding.decode

    def counted_read(uri: str, **options: Any) -> bytes:
        count[uri] += uri.endswith(".png")
        return read(uri, **options)

    def counted_decode(data: bytes, **options: Any) -> Any:
        count["decoded"] += 1
        return decode(data, **options)

    version = save_other(job, "fabric")
    both = again(job, shadow=(f"fabric={version}",))
    monkeypatch.setattr(files, "read_bytes", counted_read)
    monkeypatch.setattr(decoding, "decode", counted_decode)
    inspect(both)
    images = {row["image"] for row in rows(both)}
    assert count["decoded"] == len(images) == 16
    assert {image: count[image] for image in images} == dict.fromkeys(images, 1)


def test_rejects_are_in_both_tables(job: InspectJob) -> None:
    Path(job.archive, "fabric", "empty.png").write_bytes(b"")
    version = save_other(job, "fabric")
    inspect(again(job, shadow=(f"fabric={version}",)))
    (row,) = [row for row in shadow_rows(job) if row["image"].endswith("empty.png")]
    assert (row["verdict"], row["error"], row["model_version"]) == ("reject", "empty", version)
    assert (row["score"], row["regions"]) == (None, [])


def writes(job: InspectJob, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> int:
    """Inspect, and be killed before or after a change of the output; returns the changes."""
    seen = 0

    def watched(change: Any) -> Any:
        def changed(*arguments: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == kill_at:
                raise KilledError
            change(*arguments)

        return changed

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "delete"):
            patch.setattr(files, name, watched(getattr(files, name)))
        with contextlib.suppress(KilledError):
            inspect(job, num_rows=2)
    return seen


def check_in_step(job: InspectJob, version: str) -> None:
    """Every image has one row in both tables, and the shadow's parts are those of the verdicts."""
    own, second = by_image(rows(job)), by_image(shadow_rows(job))
    assert second.keys() == {image for image, row in own.items() if row["category"] == "fabric"}
    assert {row["model_version"] for row in second.values()} == {version}
    beside = output_layout.shadow(job.output)
    assert sink.parts(beside, "verdicts") <= sink.parts(job.output, "verdicts")


@pytest.mark.parametrize("redo", [None, "all"])
def test_a_run_killed_before_any_change_and_run_again_has_one_row_each(
    job: InspectJob, redo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for few in (("washer",), ("fabric", "test", "good")):
        shutil.rmtree(Path(job.archive, *few))
    version = save_other(job, "fabric")
    both = again(job, shadow=(f"fabric={version}",), redo=redo)
    if redo:
        inspect(again(both, redo=None))
    number = writes(again(both, output=job.output + "-whole"), monkeypatch, 0)
    for kill_at in range(1, number + 1):
        killed = again(both, output=f"{job.output}-{kill_at}")
        if redo:
            inspect(again(killed, redo=None))
        writes(killed, monkeypatch, kill_at)
        # A shadow part never has rows that the run after it does not put in step.
        inspect(killed)
        check_in_step(killed, version)
        assert len(rows(killed)) == 4


def test_a_shadow_part_without_its_verdicts_part_is_removed_by_the_next_run(
    job: InspectJob,
) -> None:
    version = save_other(job, "fabric")
    both = again(job, shadow=(f"fabric={version}",))
    inspect(both)
    part = next(each for each in sink.parts(job.output, "verdicts") if each.startswith("fabric"))
    files.delete(output_layout.part(job.output, "verdicts", part))
    assert part in sink.parts(output_layout.shadow(job.output), "verdicts")
    sink.remove_orphans(job.output)
    assert part not in sink.parts(output_layout.shadow(job.output), "verdicts")
    inspect(both)
    check_in_step(both, version)


def test_a_new_verdict_without_a_shadow_takes_the_old_one_of_the_shadow_away(
    job: InspectJob,
) -> None:
    version = save_other(job, "fabric")
    inspect(again(job, shadow=(f"fabric={version}",)))
    image = Path(job.archive, "fabric", "test", "good")
    first = sorted(image.iterdir())[0]
    first.write_bytes(sorted(image.iterdir())[1].read_bytes())
    inspect(again(job, redo="changed"))
    assert len(rows(job)) == 16
    left = {row["image"] for row in shadow_rows(job)}
    assert len(left) == 7
    assert f"file://{first}" not in left
    inspect(again(job, redo="all"))
    assert shadow_rows(job) == []
    assert not sink.parts(output_layout.shadow(job.output), "verdicts")


def written(job: InspectJob) -> Iterator[Any]:
    """Do a run, and yield what a summary counts."""
    plan = make_plan(job)
    inspector = inspection_by_hand.inspector_of(job, plan)
    for unit in inspection_by_hand.decoded(job, plan, 4):
        yield stages.write(inspector.inspect(unit), output=job.output, version="2")


def test_a_shadow_that_can_not_judge_leaves_a_whole_night_and_is_counted(
    job: InspectJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = save_other(job, "fabric")
    inspect_batch = Detector.inspect

    def fails(self: Detector, batch: Any, *others: Any) -> Any:
        if self.version == version:
            raise DetectorError("numbers that are not finite")
        return inspect_batch(self, batch, *others)

    monkeypatch.setattr(Detector, "inspect", fails)
    both = again(job, shadow=(f"fabric={version}",))
    counted = InspectSummary(run="run", shadows={"fabric": version})
    for each in written(both):
        counted.add(each, num_most_severe=0)
    assert len(rows(job)) == 16
    assert shadow_rows(job) == []
    assert summary.shadow_record(counted)["fabric"]["not_judged"] == 8
    assert "warning: the shadow of fabric could not judge 8 images" in summary.shadow_lines(counted)


def test_disagreements_are_counted_and_listed_the_farthest_apart_first(job: InspectJob) -> None:
    version = save_other(job, "fabric")
    both = again(job, shadow=(f"fabric={version}",))
    counted = InspectSummary(run="run", shadows={"fabric": version})
    for each in written(both):
        counted.add(each, num_most_severe=0)
    own, second = by_image(rows(both)), by_image(shadow_rows(both))
    other = {image for image in second if second[image]["verdict"] != own[image]["verdict"]}
    assert other
    record = summary.shadow_record(counted)["fabric"]
    assert record == {
        "version": version,
        "images": 8,
        "disagreements": len(other),
        "defect_by_shadow_only": len(other),
        "normal_by_shadow_only": 0,
        "not_judged": 0,
    }
    found = shadow_comparison.compare(job.output, most=100)
    assert (found.images, found.disagreements) == (8, len(other))
    assert {each.image for each in found.worst} == other
    distances = [each.distance for each in found.worst]
    assert np.all(np.diff(distances) <= 0)
    assert len(shadow_comparison.compare(job.output, most=1).worst) == 1
    same = shadow_comparison.compare(job.output, most=9, category="fabric", shadow_version=version)
    assert same.disagreements == len(other)
    none = shadow_comparison.compare(job.output, most=9, category="fabric", shadow_version="1")
    assert (none.images, none.worst) == (0, [])
    assert shadow_comparison.compare(job.output, most=9, category="washer").images == 0
    assert ledger.read(job.output).passed_over == []


def test_promote_shows_how_the_version_judged_as_the_shadow_of_its_latest_night(
    job: InspectJob, capfd: pytest.CaptureFixture[str]
) -> None:
    version = save_other(job, "fabric")
    inspect(again(job, shadow=(f"fabric={version}",)))
    number = shadow_comparison.compare(job.output, most=0).disagreements
    of_fabric = ["--models", job.models, "--category", "fabric", "--output", job.output]
    assert main(["models", "promote", *of_fabric, "--version", version]) == 0
    captured = capfd.readouterr()
    summary_line = json.loads(captured.out)
    assert (summary_line["shadow_images"], summary_line["disagreements"]) == (8, number)
    assert f"as a shadow: another verdict for {number} of 8 images" in captured.err
    assert captured.err.count(" -> defect ") == number
