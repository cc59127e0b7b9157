"""Training on three nodes, one of which is taken away in mid-run without a word."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import drawn
from tests.support.commands import Ended
from tests.support.finished_inspection import ON_RAY
from tests.support.training_runs import night
from vqad.detector import Detector
from vqad.images import listing
from vqad.images.tensors import to_images, to_tensor
from vqad.training import dataset

pytestmark = ON_RAY
FIFTEEN = sorted(drawn.FIFTEEN)
THREE = ["carpet", "bottle", "pill"]


@contextmanager
def three_nodes() -> Iterator[Any]:
    """Nodes of one CPU each; the first is the driver's."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def trained_without_a_node(names: list[str], folder: Path, **environment: str) -> Ended:
    """Train while a node that has workers is taken away."""
    draw(folder / "data", names)
    with three_nodes() as cluster:
        line = ("--data", folder / "data", "--models", folder / "models", "--categories")
        # Of a Ray that this process had before, the cluster has its mode of authentication.
        mode = os.environ.get("RAY_AUTH_MODE", "disabled")
        address = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": mode}
        with night(
            *(*line, ",".join(names), "--checkpoint-seconds", 2),
            home=folder,
            **address,
            **environment,
        ) as running:
            # One a node.
            running.read_until(*(f"{category}: vqvae step 20 of" for category in names[:3]))
            cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
            return running.end()


def draw(data: Path, names: list[str]) -> None:
    drawn.draw_archive(data, categories=names, size_px=64, num_train=20, num_good=1, num_defect=1)


def assert_all_inspect(folder: Path, names: list[str]) -> None:
    """Every detector loads, which checks its hashes, and inspects its test images."""
    for category in names:
        detector = Detector.load(str(folder / "models"), category)
        test = listing.list_images(str(folder / "data" / category / "test"))
        size_px = detector.settings.vqvae.image_size_px
        pixels = dataset.read(test, size_px=size_px).pixels
        verdicts = detector.inspect(to_images(to_tensor(pixels))).verdicts
        assert len(verdicts) == len(test) == 2


def assert_trained(ended: Ended, names: list[str]) -> None:
    assert ended.code == 0, ended.err
    assert sorted(ended.summary["trained"]) == sorted(names)
    assert ended.summary["failed"] == {}


def test_the_categories_of_a_lost_node_go_on_elsewhere(tmp_path: Path) -> None:
    ended = trained_without_a_node(THREE, tmp_path)
    assert_trained(ended, THREE)
    assert " resumes from " in ended.err or ended.err.count("reading 20 images") > len(THREE)
    assert_all_inspect(tmp_path, THREE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifteen_categories_outlive_a_node(tmp_path: Path) -> None:
    ended = trained_without_a_node(FIFTEEN, tmp_path, NIGHT_STEPS="300")
    sys.stderr.write(f"{ended.out}{ended.err.count(' resumes from ')} resumed from a checkpoint\n")
    assert len(FIFTEEN) == 15
    assert_trained(ended, FIFTEEN)
    assert_all_inspect(tmp_path, FIFTEEN)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifteen_categories_train_in_one_command_on_two_cores(tmp_path: Path) -> None:
    draw(tmp_path / "data", FIFTEEN)
    line = ("--data", tmp_path / "data", "--models", tmp_path / "models")
    with night(*line, home=tmp_path, NIGHT_STEPS="300") as running:
        ended = running.end()
    sys.stderr.write(ended.out)
    assert_trained(ended, FIFTEEN)
    assert_all_inspect(tmp_path, FIFTEEN)
