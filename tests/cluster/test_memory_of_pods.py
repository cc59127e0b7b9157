"""What runs in a pod at the same time fits into the memory of the pod, whatever the images are."""

import pytest

from tests.support.manifests import MANIFESTS, job_of, pods, size_bytes
from vqad.images import decoding, memory
from vqad.images.headers import Header
from vqad.on_ray import inspect, session

PROCESS_BYTES = 0.4 * 2**30  # of a decoding task without its images: see vqad.on_ray.inspect
RAY_BYTES = 2**30  # of Ray's own processes in a pod (a guess)


def start_params(name: str) -> dict[str, dict[str, str]]:
    cluster = job_of(name)["rayClusterSpec"]
    groups = {each["groupName"]: each["rayStartParams"] for each in cluster["workerGroupSpecs"]}
    return groups | {"head": cluster["headGroupSpec"]["rayStartParams"]}


def shared_bytes(name: str, group: str) -> int:
    """The size of the volume in memory, at /dev/shm."""
    (volume,) = (each for each in pods(name)[group]["volumes"] if each["name"] == "shm")
    return size_bytes(volume["emptyDir"]["sizeLimit"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_object_store_of_ray_fits_into_shared_memory(name: str) -> None:
    """Otherwise Ray would put it on the disk. By default it takes three tenths of the memory."""
    for group, params in start_params(name).items():
        assert 0 < int(params["object-store-memory"]) < 0.95 * shared_bytes(name, group)


@pytest.mark.parametrize("name", ["inspect-job.yaml", "nightly.yaml"])
@pytest.mark.parametrize("group", ["cpu", "gpu"])
def test_a_pod_has_memory_for_all_decoding_tasks_that_it_may_run(
    name: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = pods(name)[group]["containers"]
    limits = container["resources"]["limits"]
    num_cpus = int(limits["cpu"])  # KubeRay gives Ray as many
    monkeypatch.setattr(session, "most_cpus", lambda: num_cpus)
    num_tasks = num_cpus / inspect._cpus_per_decoder(1.0)
    of_task = PROCESS_BYTES + memory.READING.limit_bytes + memory.DECODING.limit_bytes
    side_px = int(decoding.MAX_PIXELS**0.5)
    largest = Header(format="TIFF", width_px=side_px, height_px=side_px, bits=16)
    once = decoding.MAX_BYTES + memory.decoding_bytes(largest)
    detector = inspect._ACTOR_BYTES if group == "gpu" else 0
    needed = num_tasks * of_task + once + detector + shared_bytes(name, group) + RAY_BYTES
    assert needed <= size_bytes(limits["memory"])
