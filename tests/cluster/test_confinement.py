"""Pods have no more rights than they need: on their node, in the cluster, and on the network."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.kuberay_schemas import violations_of_rules
from tests.support.manifests import MANIFESTS, containers, load_all, size_bytes, templates

API_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
PODS = [(name, group) for name in MANIFESTS for group in templates(name)]


def mounts(container: dict[str, Any]) -> dict[str, str]:
    """The name of the volume at each path."""
    return {each["mountPath"]: each["name"] for each in container["volumeMounts"]}


def empty_dirs(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each["emptyDir"] for each in pod["volumes"] if "emptyDir" in each}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_container_gains_no_privileges_and_writes_only_into_its_volumes(name: str) -> None:
    for group, container, pod in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = {path for path, volume in mounts(container).items() if volume != "api-token"}
        on_ray = group in ("head", "cpu", "gpu")
        # Without /dev/shm KubeRay would add one of the whole pod's memory.
        assert writable == {"/tmp", "/home/vqad"} | ({"/dev/shm"} if on_ray else set())
        assert {mounts(container)[path] for path in writable} <= empty_dirs(pod).keys()


@pytest.mark.parametrize(("name", "group"), PODS)
def test_a_pod_is_a_user_without_rights_on_its_node(name: str, group: str) -> None:
    pod = templates(name)[group]["spec"]
    user = pod["securityContext"]
    assert user["runAsNonRoot"] is True
    assert user["runAsUser"] == user["runAsGroup"] == user["fsGroup"] == 1000
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds <= {"emptyDir", "projected"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_autoscaler_alone_has_a_token_for_the_api_where_ray_reads_it(name: str) -> None:
    for group, container, pod in containers(name):
        assert pod["automountServiceAccountToken"] is False
        found = [path for path, volume in mounts(container).items() if volume == "api-token"]
        assert found == ([API_TOKEN] if group == "autoscaler" else [])
    (token,) = (
        volume["projected"]["sources"]
        for volume in templates(name)["head"]["spec"]["volumes"]
        if volume["name"] == "api-token"
    )
    assert token[0]["serviceAccountToken"]["path"] == "token"
    spec = importlib.util.find_spec("ray")
    assert spec
    assert spec.submodule_search_locations
    provider = Path(spec.submodule_search_locations[0], "autoscaler/_private/kuberay")
    source = (provider / "node_provider.py").read_text()
    assert f'IN_CLUSTER_TOKEN_PATH = "{API_TOKEN}/token"' in source
    assert f'IN_CLUSTER_CA_CERT_PATH = "{API_TOKEN}/ca.crt"' in source
    # A token of an hour is enough only for a reader that reads it again.
    assert "TOKEN_REFRESH_PERIOD = datetime.timedelta(minutes=1)" in source


@pytest.mark.parametrize(("name", "group"), PODS)
def test_memory_and_disk_that_a_pod_may_fill_are_bounded(name: str, group: str) -> None:
    pod = templates(name)[group]["spec"]
    (container,) = pod["containers"]
    asked, limits = container["resources"]["requests"], container["resources"]["limits"]
    for resource in ("memory", "ephemeral-storage"):
        assert asked[resource] == limits[resource]
    sizes: dict[str, int] = {"Memory": 0, "": 0}
    for volume in empty_dirs(pod).values():
        sizes[volume.get("medium", "")] += size_bytes(volume["sizeLimit"])
    assert sizes["Memory"] <= size_bytes(limits["memory"]) / 2
    # A gibibyte or more stays for the container's own output, which counts as well.
    spare = size_bytes(limits["ephemeral-storage"]) - sizes[""]
    assert spare >= 2**30


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("train-job.yaml", "vqad-s3-train"),
        ("inspect-job.yaml", "vqad-s3-inspect"),
        ("nightly.yaml", "vqad-s3-inspect"),
    ],
)
def test_only_pods_of_ray_have_keys_and_those_of_their_job_alone(name: str, secret: str) -> None:
    for group, container, _ in containers(name):
        on_ray = group in ("head", "cpu", "gpu")
        expected = [{"secretRef": {"name": secret}}] if on_ray else None
        assert container.get("envFrom") == expected
        assert not [each for each in container.get("env", []) if "valueFrom" in each]


def policies() -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each["spec"] for each in load_all("network-policy.yaml")}


def test_the_network_policy_has_rules_as_kubernetes_defines_them() -> None:
    for spec in policies().values():
        assert spec.keys() == {"podSelector", "policyTypes", "ingress", "egress"}
        assert violations_of_rules(spec["ingress"], spec["egress"]) == []
    (mistake,) = violations_of_rules([{"form": []}], [])
    assert "form" in mistake


@pytest.mark.parametrize(("name", "group"), PODS)
def test_every_pod_is_selected_by_the_policy_that_refuses_the_rest(name: str, group: str) -> None:
    ours = {"app.kubernetes.io/part-of": "vqad"}
    assert templates(name)[group]["metadata"]["labels"] == ours
    everyone, head = policies()["vqad"], policies()["vqad-head"]
    assert everyone["podSelector"] == {"matchLabels": ours}
    # KubeRay sets the second label.
    assert head["podSelector"] == {"matchLabels": ours | {"ray.io/node-type": "head"}}
    for policy in (everyone, head):
        assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_pods_reach_each_other_names_the_store_and_nothing_that_has_keys() -> None:
    each_other = [{"podSelector": policies()["vqad"]["podSelector"]}]
    assert [rule["from"] for rule in policies()["vqad"]["ingress"]] == [each_other]
    ports = []
    for policy in policies().values():
        for rule in policy["egress"]:
            for peer in rule["to"]:
                if "ipBlock" in peer:
                    assert "169.254.169.254/32" in peer["ipBlock"]["except"]
                if peer not in each_other:
                    ports += [each["port"] for each in rule["ports"]]
    assert sorted(ports) == [53, 53, 443, 6443]
    (operator,) = policies()["vqad-head"]["ingress"]
    assert [each["port"] for each in operator["ports"]] == [8265]
    assert re.search("kuberay-operator", str(operator["from"]))
