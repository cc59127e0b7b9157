"""Files in cluster/ satisfy the schemas of their readers and agree with the lock and the code."""

import copy
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from jobs.inspect_archive import InspectCommand
from jobs.options import Options, parse
from jobs.submit import AWS_PLACES
from jobs.train import TrainCommand
from tests.support.kuberay_schemas import ROOT, violations

CLUSTER = ROOT / "cluster"
MANIFESTS = ["train-job.yaml", "inspect-job.yaml", "nightly.yaml"]


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return found


def job_of(name: str) -> dict[str, Any]:
    """The spec of a RayJob, or of the RayJob in a RayCronJob."""
    spec: dict[str, Any] = load(name)["spec"]
    return spec["jobTemplate"] if load(name)["kind"] == "RayCronJob" else spec


def pods(name: str) -> dict[str, dict[str, Any]]:
    """The pod specs of the head and of each worker group, by name."""
    cluster = job_of(name)["rayClusterSpec"]
    groups = {each["groupName"]: each for each in cluster["workerGroupSpecs"]}
    groups["head"] = cluster["headGroupSpec"]
    return {group: each["template"]["spec"] for group, each in groups.items()}


def locked(package: str) -> str:
    lines = (CLUSTER / "requirements.lock").read_text().splitlines()
    (version,) = (each.partition("==")[2] for each in lines if each.startswith(f"{package}=="))
    return version


def test_all_manifests_are_known_here() -> None:
    kinds = {}
    for path in CLUSTER.glob("*.yaml"):
        kinds[path.name] = load(path.name).get("kind", "launcher")
    expected = {"train-job.yaml": "RayJob", "inspect-job.yaml": "RayJob"}
    assert kinds == expected | {"nightly.yaml": "RayCronJob", "ray-cluster.yaml": "launcher"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_satisfies_the_schema_of_its_kind(name: str) -> None:
    assert violations(load(name)) == []


MISTAKES = [
    ("spec.shutdownAfterJobFinish", True),
    ("spec.backoffLimit", "two"),
    ("spec.rayClusterSpec.authOptions.mode", "password"),
    ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.evnFrom", []),
    ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limit", {}),
    ("spec.rayClusterSpec.workerGroupSpecs.1.maxReplicas", 1.5),
    ("metadata.label", {}),
]


@pytest.mark.parametrize(("place", "value"), MISTAKES)
def test_a_mistake_in_a_manifest_is_found_by_its_schema(place: str, value: object) -> None:
    manifest = copy.deepcopy(load("inspect-job.yaml"))
    *path, last = place.split(".")
    inside: Any = manifest
    for part in path:
        inside = inside[int(part)] if isinstance(inside, list) else inside[part]
    inside[last] = value
    (found,) = violations(manifest)
    assert last in found


@pytest.mark.parametrize("name", MANIFESTS)
def test_image_and_ray_version_are_those_of_project_and_lock(name: str) -> None:
    assert job_of(name)["rayClusterSpec"]["rayVersion"] == locked("ray")
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version
    for group, pod in pods(name).items():
        variant = "cuda" if group == "gpu" else "cpu"
        (container,) = pod["containers"]
        assert container["image"] == f"registry.example.com/vqad:{version[1]}-{variant}"
        assert container["image"] in (CLUSTER / "Dockerfile").read_text()


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_ask_for_what_their_stage_needs_and_are_bounded(name: str) -> None:
    found = pods(name)
    assert set(found) == {"head", "cpu", "gpu"}
    for group, pod in found.items():
        (container,) = pod["containers"]
        asked, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert asked["memory"] == limits["memory"]
        assert {"cpu", "memory"} <= set(asked)
        assert (asked.get("nvidia.com/gpu"), limits.get("nvidia.com/gpu")) == (
            ("1", "1") if group == "gpu" else (None, None)
        )
        assert container["envFrom"] == [{"secretRef": {"name": "vqad-s3"}}]
        assert pod["securityContext"]["runAsNonRoot"] is True
        (shm,) = pod["volumes"]
        assert shm["emptyDir"]["medium"] == "Memory"
        assert {"name": shm["name"], "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert job_of(name)["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_job_ends_frees_its_cluster_and_keeps_others_out(name: str) -> None:
    job = job_of(name)
    assert job["shutdownAfterJobFinishes"] is True
    assert 0 < job["activeDeadlineSeconds"] < 24 * 3600
    assert 0 < job["backoffLimit"] <= 3
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    for group in job["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # A job that sees no GPU at its start assumes that there is none.
    (gpu,) = (
        each for each in job["rayClusterSpec"]["workerGroupSpecs"] if each["groupName"] == "gpu"
    )
    assert gpu["minReplicas"] == 1


def run_as_shell(entrypoint: str, now: datetime | None = None) -> list[str]:
    """The arguments that a command gets from a shell, whose clock may be set to ``now``."""
    script = 'vqad() { printf "%s\\n" "$@"; }\n'
    if now:
        # The real `date` at another time.
        stamp = f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        script += (
            'date() { local day=0; [ "$1 $2" = "-d yesterday" ] && shift 2 && day=86400; '
            f'command date -d "@$(($(command date -d "{stamp}" +%s) - day))" "$@"; }}\n'
        )
    done = subprocess.run(
        ["bash", "-euc", script + entrypoint],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.splitlines()


COMMANDS: dict[str, type[Options]] = {"inspect": InspectCommand, "train": TrainCommand}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_entry_point_is_a_command_with_options_that_exist(name: str) -> None:
    entrypoint = job_of(name)["entrypoint"]
    assert entrypoint.startswith("vqad ")
    # KubeRay puts it into a longer line of shell, where these characters would end it.
    assert not re.search("[;&|<>\"'`\n]", entrypoint)
    kind, *arguments = run_as_shell(entrypoint)
    options = parse(COMMANDS[kind], arguments)
    groups = job_of(name)["rayClusterSpec"]["workerGroupSpecs"]
    (most,) = (each["maxReplicas"] for each in groups if each["groupName"] == "gpu")
    asked = options.model_dump()
    if kind == "inspect":
        assert (asked["num_actors"], asked["gpus_per_actor"]) == (most, 1)
    else:
        assert (asked["max_concurrent"], asked["gpus_per_category"]) == (most, 1)
    for place in ("archive", "data", "models", "output"):
        assert asked.get(place, "s3://").startswith("s3://")


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-11-25 00:30 UTC", "2026-11-24"),  # 01:30 in Berlin, in winter
        ("2026-07-01 23:30 UTC", "2026-07-01"),  # 01:30 on the 2nd, in summer
        ("2027-01-01 00:30 UTC", "2026-12-31"),
    ],
)
def test_the_nightly_entry_point_takes_the_day_before_in_its_time_zone(
    now: str, night: str
) -> None:
    moment = datetime.strptime(now, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    options = parse(InspectCommand, run_as_shell(job_of("nightly.yaml")["entrypoint"], moment)[1:])
    assert options.archive == f"s3://factory/{night}"
    assert options.output == f"s3://factory/inspected/{night}"


def test_the_nightly_dates_agree_with_the_real_clock_and_the_stated_zone() -> None:
    zone = load("nightly.yaml")["spec"]["timeZone"]
    entrypoint = job_of("nightly.yaml")["entrypoint"]
    assert set(re.findall(r"TZ=(\S+)", entrypoint)) == {zone}
    before = datetime.now(ZoneInfo(zone)).date() - timedelta(days=1)
    options = parse(InspectCommand, run_as_shell(entrypoint)[1:])
    after = datetime.now(ZoneInfo(zone)).date() - timedelta(days=1)
    assert options.archive in {f"s3://factory/{each}" for each in (before, after)}


def test_the_nightly_job_is_the_single_one_on_the_same_cluster() -> None:
    night, single = job_of("nightly.yaml"), job_of("inspect-job.yaml")
    assert night | {"entrypoint": ""} == single | {"entrypoint": ""}
    date = "$(TZ=Europe/Berlin date -d yesterday +%F)"
    pattern = single["entrypoint"].replace("2026-11-24", date)
    assert night["entrypoint"] == pattern


@pytest.fixture
def launcher() -> dict[str, Any]:
    return load("ray-cluster.yaml")


@pytest.mark.filterwarnings("ignore::Warning:ray")
def test_the_launcher_accepts_its_file(launcher: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(launcher)
    prepared = prepare_config(copy.deepcopy(launcher))
    validate_config(prepared)
    for name, node in launcher["available_node_types"].items():
        assert prepared["available_node_types"][name].items() >= node.items()
    launcher["idle_timeout"] = 5
    with pytest.raises(Exception, match="'idle_timeout' was unexpected"):
        validate_config(launcher)


def test_the_launcher_brings_what_the_checkout_has_and_starts_with_tokens(
    launcher: dict[str, Any],
) -> None:
    for there, here in launcher["file_mounts"].items():
        assert here.startswith("~") or (ROOT / here).exists()
        assert there.startswith("~/")
    for command in launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"]:
        if " ray start " in command.replace("/ray", " ray"):
            assert "RAY_AUTH_MODE=token" in command
    for node in launcher["available_node_types"].values():
        assert node["node_config"]["IamInstanceProfile"]["Name"]


def test_dockerfile_and_launcher_install_the_same_debian_packages(launcher: dict[str, Any]) -> None:
    def packages(text: str) -> set[str]:
        found = re.search(
            r"apt-get install --yes(?: --no-install-recommends)?((?:\s+[a-z]\S+)+)", text
        )
        assert found
        return set(found[1].split())

    image = packages((CLUSTER / "Dockerfile").read_text().replace("\\\n", " "))
    machines = packages(launcher["setup_commands"][0])
    # wget is for the probes of KubeRay, which does not run on the launcher's machines.
    assert image - {"ca-certificates", "wget"} == machines - {"python3-venv"}
    # Without tzdata every TZ is UTC, and the job inspects another night.
    assert "tzdata" in image


def test_the_dockerfile_starts_from_a_python_that_the_project_supports_by_digest() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (.+)$", text, re.MULTILINE)
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", bases[0])
    assert bases[0].partition("@")[0] in (CLUSTER / "README.md").read_text()
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_the_dockerfile_installs_nothing_from_an_index_without_its_hash() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install .*?(?=&&|\n)", text)
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        # Only this project comes without a hash: from a folder, built by the locked setuptools.
        assert ("--require-hashes" in install) != (" --no-build-isolation . " in install)


def test_the_variables_that_are_handed_on_name_no_secret() -> None:
    assert not [name for name in AWS_PLACES if re.search("KEY|TOKEN|SECRET|PASSWORD", name)]


def test_the_readme_names_every_file_that_is_there() -> None:
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.iterdir():
        assert path.name == "README.md" or path.name in text, path
