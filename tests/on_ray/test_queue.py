"""Who trains when and on what, and where it keeps its state: without a Ray that runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vqad.inspection.job import InspectJob
from vqad.on_ray import inspect, resources, session
from vqad.on_ray.checkpoint_folder import CheckpointFolder
from vqad.on_ray.resources import Resources
from vqad.training.options import TrainOptions

pytestmark = pytest.mark.filterwarnings("ignore::Warning:ray")
OPTIONS = TrainOptions(category="pill", kind="object", preset="tiny")
REGISTRY = "checkpoint_manager_snapshot.json"


def cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    """Nodes as Ray would tell of them."""
    told = [{"Alive": True, "Resources": node} for node in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}
    monkeypatch.setattr(resources.ray, "nodes", lambda: [*told, gone])
    monkeypatch.setattr(session, "num_cpus", lambda: int(sum(n.get("CPU", 0) for n in nodes)))
    monkeypatch.setattr(session, "num_gpus", lambda: sum(n.get("GPU", 0.0) for n in nodes))
    # Another test of this process may have started a private Ray that is still there.
    monkeypatch.setattr(session, "is_private", lambda: False)


LAPTOP = [{"CPU": 2.0}]
THREE = [{"CPU": 2.0}] * 3
GPU = [{"CPU": 16.0, "GPU": 1.0}]
FARM = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}]


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        (LAPTOP, {"num_categories": 15}, (2, 1, 1, 0)),
        (LAPTOP, {"num_categories": 1}, (1, 1, 2, 0)),
        (LAPTOP, {"num_categories": 15, "max_concurrent": 1}, (1, 1, 2, 0)),
        (LAPTOP, {"num_categories": 15, "num_workers": 2}, (1, 2, 1, 0)),
        (LAPTOP, {"num_categories": 1, "num_workers": 4}, (1, 4, 1, 0)),
        (THREE, {"num_categories": 15}, (6, 1, 1, 0)),
        # A worker with the CPUs of all nodes would find no place.
        (THREE, {"num_categories": 1}, (1, 1, 2, 0)),
        (GPU, {"num_categories": 15}, (1, 1, 16, 1)),
        (GPU, {"num_categories": 15, "gpus_per_category": 0.25}, (4, 1, 4, 0.25)),
        (GPU, {"num_categories": 15, "gpus_per_category": 0.0}, (15, 1, 1, 0)),
        (FARM, {"num_categories": 15}, (8, 1, 12, 1)),
        (FARM, {"num_categories": 2}, (2, 1, 16, 1)),
        (FARM, {"num_categories": 15, "num_workers": 2}, (4, 2, 12, 1)),
        (FARM, {"num_categories": 15, "num_workers": 2, "gpus_per_category": 1.0}, (8, 2, 6, 0.5)),
    ],
)
def test_what_ray_has_is_shared_out(
    monkeypatch: pytest.MonkeyPatch, nodes: list, asked: dict[str, Any], expected: tuple
) -> None:
    cluster(monkeypatch, *nodes)
    found = resources.share(**asked)
    assert (found.num_concurrent, found.num_workers, found.cpus, found.gpus) == expected
    assert found.missing() == ""


def test_a_worker_that_no_node_has_room_for_is_said_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster(monkeypatch, *LAPTOP)
    wanted = Resources(num_concurrent=1, num_workers=1, cpus=1, gpus=0.5)
    expected = "a worker needs 1 CPU and 0.5 GPUs, which no node has now; waiting for one"
    assert wanted.missing() == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        (
            LAPTOP,
            {"gpus_per_category": 1.0},
            "1 worker of a category would need 1 CPU and 1 GPU, and this machine has 2 CPUs and 0 "
            "GPUs; give a smaller --workers-per-category or --gpus-per-category",
        ),
        (
            LAPTOP,
            {"num_workers": 4},
            "4 workers of a category would need 4 CPUs, and this machine has 2 CPUs and 0 GPUs; "
            "give a smaller --workers-per-category or --gpus-per-category",
        ),
        (GPU, {"gpus_per_category": 1.0}, ""),
        (LAPTOP, {"num_workers": 2}, ""),
    ],
)
def test_what_this_machine_can_never_place_is_refused_and_a_cluster_may_grow(
    monkeypatch: pytest.MonkeyPatch, nodes: list, asked: dict[str, Any], said: str
) -> None:
    cluster(monkeypatch, *nodes)
    shares = resources.share(1, **asked)
    shares.check()  # not a private Ray
    monkeypatch.setattr(session, "is_private", lambda: True)
    if not said:
        shares.check()
        return
    with pytest.raises(resources.NoPlaceError) as caught:
        shares.check()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("options", "private", "cluster_says"),
    [
        (
            {"gpus_per_actor": 1.0},
            "1 detector would need 0.85 CPUs and 1 GPU, and this machine has 2 CPUs and 0 GPUs; "
            "give a smaller --num-actors or --gpus-per-actor",
            ["a detector needs 0.6 CPUs and 1 GPU, which no node has now; waiting for one"],
        ),
        (
            {"num_actors": 3},
            "3 detectors would need 2.05 CPUs, and this machine has 2 CPUs and 0 GPUs; give a "
            "smaller --num-actors or --gpus-per-actor",
            [],
        ),
        ({"num_actors": 2}, "", []),
        ({}, "", []),
    ],
)
def test_detectors_without_a_place_are_refused_here_and_said_to_wait_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    private: str,
    cluster_says: list[str],
) -> None:
    cluster(monkeypatch, *LAPTOP)
    monkeypatch.setattr(session, "memory_bytes", lambda: 2**33)
    job = InspectJob(archive="a", models="m", output="o", **options)
    said: list[str] = []
    inspect.check_places(job, said.append)
    assert said == cluster_says
    monkeypatch.setattr(session, "is_private", lambda: True)
    if not private:
        inspect.check_places(job, said.append)
        return
    with pytest.raises(resources.NoPlaceError) as caught:
        inspect.check_places(job, said.append)
    assert str(caught.value) == private


def test_workers_wait_for_a_place_longer_than_a_night() -> None:
    import os

    assert float(os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"]) > 24 * 3600


@pytest.mark.parametrize(
    "other",
    [
        {"options": replace(OPTIONS, seed=1)},
        {"options": replace(OPTIONS, preset="laptop")},
        {"options": replace(OPTIONS, category="cable")},
        {"fingerprint": "other images"},
        {"run": "tuesday"},
        {"models": "/elsewhere"},
    ],
)
def test_state_is_found_again_by_the_same_command_and_by_no_other(other: dict) -> None:
    same = {"models": "/models", "run": "monday", "options": OPTIONS, "fingerprint": "images"}
    kept = CheckpointFolder.of(**same)
    assert CheckpointFolder.of(**same) == kept
    assert kept.uri.startswith("file:///models/.runs/monday/pill-")
    assert CheckpointFolder.of(**(same | other)).uri != kept.uri


def kept_in(folder: Path, registry: str | None, *checkpoints: str) -> CheckpointFolder:
    kept = CheckpointFolder.of(str(folder), "monday", OPTIONS, "images")
    place = folder / ".runs" / "monday" / kept.name
    for name in checkpoints:
        (place / name).mkdir(parents=True)
        (place / name / "state.pt").write_bytes(b"state")
    if registry is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / REGISTRY).write_text(registry)
    return kept


NAMED = '{"checkpoint_results": [{"checkpoint_dir_name": "one", "metrics": {}}]}'


@pytest.mark.parametrize(
    ("registry", "is_broken"),
    [(NAMED, False), (NAMED[:30], True), ("", True), ("[]", True), (None, False)],
)
def test_a_registry_that_a_kill_left_half_written_is_removed(
    tmp_path: Path, registry: str | None, is_broken: bool
) -> None:
    kept = kept_in(tmp_path, registry, "one")
    assert kept.mend() == is_broken
    there = (tmp_path / ".runs" / "monday" / kept.name / REGISTRY).exists()
    assert there == (registry is not None and not is_broken)
    assert kept.mend() is False


def test_a_registry_of_a_checkpoint_that_is_gone_is_removed(tmp_path: Path) -> None:
    assert kept_in(tmp_path, NAMED, "another").mend()


def test_state_is_removed_whole_and_once(tmp_path: Path) -> None:
    kept = kept_in(tmp_path, NAMED, "one", "two")
    kept.remove()
    kept.remove()
    assert not list((tmp_path / ".runs" / "monday").iterdir())
