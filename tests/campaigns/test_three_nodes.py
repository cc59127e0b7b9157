"""A simulated cluster: a node without GPUs and two with; stages lie where they belong.

The GPUs are in Ray's books only. What really has none computes on the CPU, wherever it is put.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_detectors
from tests.support.finished_inspection import verdicts
from tests.support.s3_server import free_ports
from vqad import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::Warning:ray")]
# More than Ray needs to notice that a node is gone.
FINISHED_WITHIN_S = 400


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The simulated cluster, and its nodes' names by what they have."""

    cluster: Any
    dashboard: str
    gpu_nodes: list[Any]

    def command(self, *arguments: object) -> subprocess.Popen[str]:
        """`vqad ARGUMENTS` on it."""
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", *map(str, arguments)],
            env=os.environ | {"RAY_ADDRESS": self.cluster.address, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def places(self, name: str) -> set[str]:
        """Nodes on which actors and tasks whose name holds this have run, also if gone by now."""
        from ray.util.state import list_actors, list_tasks

        asked = {"address": self.dashboard, "limit": 10_000, "raise_on_missing_output": False}
        actors = [(each.class_name, each.node_id) for each in list_actors(**asked)]
        tasks = [(each.name, each.node_id) for each in list_tasks(**asked)]
        return {node for what, node in [*actors, *tasks] if name in (what or "") and node}

    @property
    def with_gpu(self) -> set[str]:
        """Names of the nodes with a GPU."""
        return {each.node_id for each in self.gpu_nodes}


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    (port,) = free_ports(1)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": True, "dashboard_port": port},
    )
    try:
        gpu_nodes = [cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        yield Nodes(cluster=cluster, dashboard=f"http://127.0.0.1:{port}", gpu_nodes=gpu_nodes)
    finally:
        cluster.shutdown()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a command that ended well."""
    out, err = process.communicate(timeout=FINISHED_WITHIN_S)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_training_lies_on_the_nodes_with_gpus(nodes: Nodes, tmp_path: Path) -> None:
    synthetic.draw_archive(
        tmp_path, categories=["washer"], size_px=64, num_train=24, num_good=0, num_defect=0
    )
    line = ("train", "--data", tmp_path, "--models", tmp_path / "models", "--preset", "tiny")
    process = nodes.command(*line, "--kind", "washer=object")
    assert ended(process)["trained"] == ["washer"]
    assert nodes.places("RayTrainWorker") <= nodes.with_gpu
    assert nodes.places("RayTrainWorker")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """640 images of one category, and a detector for them beside it."""
    small_detectors.draw(tmp_path / "archive", ("washer",))
    small_detectors.save_detector(str(tmp_path / "models"), "washer", str(tmp_path / "archive"))
    for path in list((tmp_path / "archive" / "washer" / "test").rglob("*.png")):
        for number in range(79):
            shutil.copy(path, path.with_name(f"{path.stem}-{number:02}.png"))
    return tmp_path / "archive"


@pytest.mark.parametrize("share", [1, 0.5])
def test_detectors_lie_on_the_nodes_with_gpus_and_decoding_on_all(
    nodes: Nodes, archive: Path, share: float
) -> None:
    line = ("inspect", "--archive", archive, "--models", archive.parent / "models")
    line = (*line, "--gpus-per-actor", share)
    found = ended(nodes.command(*line, "--output", archive.parent / "output"))
    assert (found["images"], found["reject"]) == (640, 0)
    assert nodes.places("Inspector") == nodes.with_gpu
    assert nodes.places("decode") - nodes.with_gpu


def test_a_node_that_is_lost_in_mid_run_costs_no_row(nodes: Nodes, archive: Path) -> None:
    output = archive.parent / "output"
    line = ("inspect", "--archive", archive, "--models", archive.parent / "models")
    process = nodes.command(*line, "--output", output, "--batch-size", 1)
    give_up_s = time.monotonic() + 200
    while not list(output.glob("verdicts/washer/part-*.parquet")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
    nodes.cluster.remove_node(nodes.gpu_nodes[0], allow_graceful=False)
    before = len(verdicts(output))
    assert before < 640
    found = ended(process)
    rows = verdicts(output)
    assert len(rows) == len({row["image"] for row in rows}) == 640
    assert (found["images"], found["reject"]) == (640, 0)
