"""Files in cluster/ satisfy the schemas of their readers and agree with the lock and the code."""

import copy
import os
import re
import subprocess
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobs.inspect_archive import InspectCommand
from jobs.options import Options, parse
from jobs.submit import AWS_PLACES
from jobs.train import TrainCommand
from tests.support.kuberay_schemas import ROOT, violations
from tests.support.locks import locked
from tests.support.manifests import CLUSTER, MANIFESTS, job_of, load, load_all, pods, templates


def test_all_manifests_are_known_here() -> None:
    kinds = {path.name: load_all(path.name)[0].get("kind") for path in CLUSTER.glob("*.yaml")}
    assert kinds == {
        "train-job.yaml": "RayJob",
        "inspect-job.yaml": "RayJob",
        "nightly.yaml": "RayCronJob",
        "network-policy.yaml": "NetworkPolicy",
        "ray-cluster.yaml": None,  # the launcher's
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_satisfies_the_schema_of_its_kind(name: str) -> None:
    assert violations(load(name)) == []


BERLIN = ZoneInfo("Europe/Berlin")
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
    assert job_of(name)["rayClusterSpec"]["rayVersion"] == locked("requirements.lock")["ray"]
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version
    for group, template in templates(name).items():
        variant = "cuda" if group == "gpu" else "cpu"
        (container,) = template["spec"]["containers"]
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
        # The real `date` in the entry point's time zone, at another time.
        script += (
            f'date() {{ local now; now=$(command date -d "@{now.timestamp():.0f}" "+%F %T"); '
            '[ "$1" = -d ] && command date -d "$now $2" "$3"; }\n'
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


NIGHTS = [
    ("2026-11-25 01:30", "2026-11-24"),
    ("2027-01-01 01:30", "2026-12-31"),
    ("2026-07-02 01:30", "2026-07-01"),  # summer time
    ("2026-11-25 14:00", "2026-11-24"),
    ("2026-11-26 00:10", "2026-11-24"),  # a retry after midnight
    ("2026-11-26 01:29", "2026-11-24"),
    ("2026-11-26 01:30", "2026-11-25"),
    ("2027-03-28 01:30", "2027-03-27"),  # half an hour before an hour is left out
    ("2027-03-28 03:10", "2027-03-27"),
    ("2027-03-29 01:00", "2027-03-27"),
    ("2027-03-29 01:30", "2027-03-28"),
    ("2027-03-29 02:30", "2027-03-28"),  # there was no 02:30 the day before
    ("2026-10-25 01:30", "2026-10-24"),  # before an hour comes twice
    ("2026-10-26 01:00", "2026-10-24"),
    ("2026-10-26 01:30", "2026-10-25"),
]


@pytest.mark.parametrize(("now", "night"), NIGHTS)
def test_a_night_has_one_date_until_the_next_night_starts(now: str, night: str) -> None:
    moment = datetime.strptime(now, "%Y-%m-%d %H:%M").replace(tzinfo=BERLIN)
    options = parse(InspectCommand, run_as_shell(job_of("nightly.yaml")["entrypoint"], moment)[1:])
    assert options.archive == f"s3://factory/{night}"
    assert options.output == f"s3://factory/inspected/{night}"


def test_the_date_changes_when_the_schedule_starts_a_job() -> None:
    minute, hour, *_ = load("nightly.yaml")["spec"]["schedule"].split()
    entrypoint = job_of("nightly.yaml")["entrypoint"]
    assert re.findall(r"-(\d+)minutes", entrypoint) == [str(60 * int(hour) + int(minute))] * 2


def the_night_of(moment: datetime) -> date:
    started_today = (moment.hour, moment.minute) >= (1, 30)
    return moment.date() - timedelta(days=1 if started_today else 2)


def test_the_nightly_dates_agree_with_the_real_clock_and_the_stated_zone() -> None:
    zone = load("nightly.yaml")["spec"]["timeZone"]
    entrypoint = job_of("nightly.yaml")["entrypoint"]
    assert set(re.findall(r"TZ=(\S+)", entrypoint)) == {zone} == {BERLIN.key}
    before = the_night_of(datetime.now(BERLIN))
    options = parse(InspectCommand, run_as_shell(entrypoint)[1:])
    after = the_night_of(datetime.now(BERLIN))
    assert options.archive in {f"s3://factory/{each}" for each in (before, after)}


def test_the_nightly_job_is_the_single_one_on_the_same_cluster() -> None:
    night, single = job_of("nightly.yaml"), job_of("inspect-job.yaml")
    assert night | {"entrypoint": ""} == single | {"entrypoint": ""}
    computed = r"$(TZ=Europe/Berlin date -d yesterday\ -90minutes +%F)"
    pattern = single["entrypoint"].replace("2026-11-24", computed)
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


def test_the_variables_that_are_handed_on_name_no_secret() -> None:
    assert not [name for name in AWS_PLACES if re.search("KEY|TOKEN|SECRET|PASSWORD", name)]


def test_the_readme_names_every_file_that_is_there() -> None:
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.iterdir():
        assert path.name == "README.md" or path.name in text, path
