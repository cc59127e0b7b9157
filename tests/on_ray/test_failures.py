"""Errors of workers reach the driver as data, and Ray's own are explained. No Ray is started."""

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from vqad.on_ray import failures, train, units
from vqad.storage.errors import ArchiveError, IncompleteError, details_of, work_begun
from vqad.storage.lease import LeaseLostError

FEWER = "give a smaller --num-actors"


def raised(error: Exception) -> Exception:
    """The error with a traceback, as a worker has it."""
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LeaseLostError("the lease on o is lost: run b has it"), "the lease on o is lost: run b "),
        (ArchiveError("o/part: no space left\n on device; check"), "o/part: no space left on dev"),
        (RuntimeError("sizes differ"), "RuntimeError: sizes differ"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_failure_has_the_errors_own_words_and_the_traceback(
    error: Exception, reason: str
) -> None:
    failure = pickle.loads(pickle.dumps(failures.of(raised(error))))
    assert failure.reason.startswith(reason)
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert "test_failures.py" in failure.traceback
    assert details_of(failure.error()) == failure.traceback


def test_a_worker_exception_is_said_as_it_was_raised_there() -> None:
    cause = LeaseLostError("the lease on o is lost: run b has it")
    error = ray.exceptions.RayTaskError("write", "pages\nof\ntraceback", cause)
    with (
        pytest.raises(IncompleteError, match=r"^the lease on o is lost: run b has it$") as caught,
        work_begun(),
        failures.explained(FEWER),
    ):
        raise error.as_instanceof_cause()
    assert "pages\nof\ntraceback" in details_of(caught.value)


AGAIN = "the same command goes on where it ended"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ray.exceptions.ActorDiedError(),
            f"a worker process ended unexpectedly; {AGAIN}, and if it ends again, {FEWER}",
        ),
        (
            ray.exceptions.WorkerCrashedError(),
            f"a worker process ended unexpectedly; {AGAIN}, and if it ends again, {FEWER}",
        ),
        (ray.exceptions.OutOfMemoryError("x"), f"the machine ran out of memory; {FEWER}"),
        (ray.exceptions.ObjectStoreFullError("x"), f"Ray's memory for objects is full; {FEWER}"),
        (
            ray.exceptions.OutOfDiskError("x"),
            "the disk of Ray's temporary folder is full; make room there, or set TMPDIR to "
            "another folder",
        ),
        (ray.exceptions.NodeDiedError("x"), f"a node of the cluster was lost; {AGAIN}"),
        (ray.exceptions.RaySystemError(OSError("x")), f"Ray failed with RaySystemError; {AGAIN}"),
    ],
)
def test_an_error_of_ray_itself_is_explained_without_its_advice(
    error: ray.exceptions.RayError, said: str
) -> None:
    with pytest.raises(IncompleteError) as caught, failures.explained(FEWER):
        raise error
    assert str(caught.value) == said
    assert details_of(caught.value) == str(error)


def doubled(unit: pa.Table) -> Iterator[pa.Table]:
    for value in unit["value"].to_pylist():
        if value == 3:
            raise ArchiveError("three cannot be written; give another number")
        yield pa.table({"value": [value * 2]})


def test_an_error_of_a_stage_passes_the_next_ones_and_is_raised_at_the_end() -> None:
    first = list(units.done(units.pack(pa.table({"value": [1, 2, 3, 4]})), doubled))
    second = [each for packed in first for each in units.done(packed, doubled)]
    assert [unit["value"].to_pylist() for unit in units.unpack(pa.concat_tables(second[:2]))] == [
        [4],
        [8],
    ]
    with pytest.raises(IncompleteError, match=r"^three cannot be written; give") as caught:
        list(units.unpack(second[2]))
    assert "in doubled" in details_of(caught.value)
    assert len(second) == 3


def test_what_ray_may_do_again_is_left_to_it() -> None:
    def stage(unit: pa.Table) -> Iterator[pa.Table]:
        raise ray.exceptions.ObjectLostError("", None, "")
        yield unit

    with pytest.raises(ray.exceptions.ObjectLostError):
        list(units.done(units.pack(pa.table({"value": [1]})), stage))


def test_the_reason_of_a_category_is_what_its_worker_noted_and_never_prose_of_ray() -> None:
    noted = failures.of(raised(RuntimeError("sizes differ")))
    group = ray.train.v2.api.exceptions.WorkerGroupError("pages", {0: RuntimeError("pages")})
    assert train._cause(group, noted) is noted
    assert train._cause(group, None).reason == f"Ray failed with RuntimeError; {AGAIN}"
    crashed = ray.exceptions.WorkerCrashedError()
    group = ray.train.v2.api.exceptions.WorkerGroupError("pages", {1: crashed})
    assert train._cause(group, noted).reason.startswith("a worker process ended unexpectedly; ")
    error = ray.train.ControllerError(RuntimeError("pages"))
    assert train._cause(error, None).reason == f"Ray failed with ControllerError; {AGAIN}"


def test_a_failed_category_is_said_with_the_file_of_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    summary = train.TrainSummary()
    event = summary.add("pill", {"failed": "RuntimeError: no", "traceback": "Traceback: no\n"})
    assert event.line.startswith("failed: pill: RuntimeError: no; traceback in ")
    assert event.line == f"failed: pill: {summary.failed['pill']}"
    assert Path(event.line.rpartition(" ")[2]).read_text() == "Traceback: no\n"
    assert summary.add("tile", {"failed": "no images"}).line == "failed: tile: no images"
