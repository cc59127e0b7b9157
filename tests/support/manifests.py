"""The manifests in cluster/, as their readers see them."""

from collections.abc import Iterator
from typing import Any

import yaml

from tests.support.kuberay_schemas import ROOT

CLUSTER = ROOT / "cluster"
MANIFESTS = ["train-job.yaml", "inspect-job.yaml", "nightly.yaml"]


def load(name: str) -> dict[str, Any]:
    (found,) = load_all(name)
    return found


def load_all(name: str) -> list[dict[str, Any]]:
    return list(yaml.load_all((CLUSTER / name).read_text(), yaml.CSafeLoader))


def job_of(name: str) -> dict[str, Any]:
    """The spec of a RayJob, or of the RayJob in a RayCronJob."""
    spec: dict[str, Any] = load(name)["spec"]
    return spec["jobTemplate"] if load(name)["kind"] == "RayCronJob" else spec


def templates(name: str) -> dict[str, dict[str, Any]]:
    """The pod templates of the submitter, the head and each worker group, by name."""
    job = job_of(name)
    groups = {each["groupName"]: each for each in job["rayClusterSpec"]["workerGroupSpecs"]}
    groups["head"] = job["rayClusterSpec"]["headGroupSpec"]
    ray = {group: each["template"] for group, each in groups.items()}
    return ray | {"submitter": job["submitterPodTemplate"]}


def pods(name: str) -> dict[str, dict[str, Any]]:
    """The pod specs of the head and of each worker group, by name."""
    return {group: each["spec"] for group, each in templates(name).items() if group != "submitter"}


def containers(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each container with its name and its pod; the autoscaler's, which KubeRay adds, as well."""
    for group, template in templates(name).items():
        for container in template["spec"]["containers"]:
            yield group, container, template["spec"]
    cluster = job_of(name)["rayClusterSpec"]
    yield "autoscaler", cluster["autoscalerOptions"], cluster["headGroupSpec"]["template"]["spec"]


def size_bytes(quantity: str) -> int:
    """Kubernetes' notation of a size, such as 10Gi."""
    return int(quantity[:-2]) * {"Mi": 2**20, "Gi": 2**30}[quantity[-2:]]
