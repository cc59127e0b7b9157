"""Submission to a running cluster: the job's log, summary and exit code come back."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import jobs
from jobs.inspect_archive import InspectCommand
from jobs.options import Options, parse
from jobs.submit import Submission, SubmitInspect, SubmitTrain, flags
from jobs.train import TrainCommand
from tests.support.commands import Ended, clean_environment
from tests.support.finished_inspection import verdicts
from tests.support.ray_head import Head, ray_head
from tests.support.s3_server import S3Server
from vqad import synthetic
from vqad.storage import files, uris

URIS = ("--archive", "s3://b/a", "--models", "s3://b/m", "--output", "s3://b/o")

TRAIN_LINES = [
    ["--data", "s3://b/d", "--models", "s3://b/m"],
    ["--data", "s3://b/d", "--models", "s3://b/m", "--categories", "a,b", "--redo", "--eta=auto"],
    ["--data", "s3://b/d", "--models", "s3://b/m", "--kind", "a=texture", "--kind", "b=object"],
]
INSPECT_LINES = [
    [*URIS],
    [*URIS, "--category-pattern", r"part \"x'(\d+)$HOME", "--maps=none", "--num-actors=2"],
    [*URIS, "--modified-since", "2026-01-01T00:00:00+01:00", "--include", "*/te st/*"],
]


@pytest.mark.parametrize(
    ("submission", "command", "line"),
    [
        *((SubmitTrain, TrainCommand, line) for line in TRAIN_LINES),
        *((SubmitInspect, InspectCommand, line) for line in INSPECT_LINES),
    ],
)
def test_the_job_gets_the_options_that_were_given(
    submission: type[Submission], command: type[Options], line: list[str]
) -> None:
    here = parse(submission, [*line, "--address", "http://h:1", "--no-wait", "--no-forward"])
    assert parse(command, flags(here)) == parse(command, line)


def test_options_of_the_configuration_file_and_the_environment_reach_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "night.toml").write_text(
        'data = "s3://b/d"\nmodels = "s3://b/m"\npreset = "paper"\nseed = 3\n'
        '[categories.tile]\nkind = "texture"\nheldout_group = \'part_(\\d+), "x"\'\n'
    )
    monkeypatch.setenv("VQAD_SEED", "4")
    line = ["--config", str(tmp_path / "night.toml"), "--preset", "tiny"]
    sent = flags(parse(SubmitTrain, line))
    monkeypatch.delenv("VQAD_SEED")
    there = parse(TrainCommand, sent)
    assert (there.preset, there.seed, there.config) == ("tiny", 4, None)
    assert there.per_category["tile"].heldout_group == 'part_(\\d+), "x"'


def submit(
    *arguments: object,
    home: Path,
    environment: dict[str, str] | None = None,
    timeout_s: float = 300,
) -> Ended:
    """`vqad submit ARGUMENTS` from a folder in which no package lies."""
    code = f"import sys; sys.path.insert(0, {str(Path(jobs.__file__).parents[1])!r})"
    code += "; from jobs.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "submit", *map(str, arguments)],
        cwd=home,
        env=clean_environment(home) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


def assert_refused(ended: Ended, said: str) -> None:
    assert (ended.code, ended.out) == (2, ""), ended
    assert ended.err == f"vqad submit {said}\n"


def test_without_an_address_it_is_asked_for(tmp_path: Path) -> None:
    expected = "inspect: --address is required, such as http://HEAD:8265"
    assert_refused(submit("inspect", *URIS, home=tmp_path), expected)


@pytest.mark.parametrize("given", ["data", "/data"])
def test_a_path_of_this_machine_is_refused(given: str, tmp_path: Path) -> None:
    uri = f"file://{Path(tmp_path, given)}"
    line = ("--data", given, "--models", "s3://b/m", "--address", "http://127.0.0.1:1")
    expected = (
        f"train: --data {uri} is a local path, and nothing is copied to the cluster; "
        "give s3://bucket/prefix, or --shared-paths if every node sees the same files there"
    )
    assert_refused(submit("train", *line, home=tmp_path), expected)


@pytest.mark.parametrize("address", ["h:8265", "ray://h:10001", "http://me:secret@h:8265"])
def test_an_address_that_is_no_plain_url_is_refused_without_being_shown(
    address: str, tmp_path: Path
) -> None:
    expected = "inspect: the address of a job server is http://HOST:PORT or https://HOST:PORT"
    assert_refused(submit("inspect", *URIS, "--address", address, home=tmp_path), expected)


def test_a_cluster_that_nobody_answers_for_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and not listening: nobody else answers here
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = submit("inspect", *URIS, "--address", address, home=tmp_path)
    expected = f"inspect: the cluster at {address} cannot be reached; check --address, that its "
    assert_refused(ended, expected + "head runs, and the network")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A head, a bucket that it can reach by what is handed on, and an empty folder."""

    head: Head
    s3: S3Server
    home: Path

    def submit(self, *arguments: object) -> Ended:
        environment = self.s3.environment | self.head.authentication
        return submit(
            *arguments, "--address", self.head.address, home=self.home, environment=environment
        )


@pytest.fixture(scope="module")
def cluster(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("empty")
    # What the nodes have installed is not what was submitted, and they have other keys.
    installed = tmp_path_factory.mktemp("installed")
    for name in ("jobs", "vqad"):
        (installed / name).mkdir()
        (installed / name / "__init__.py").write_text("raise RuntimeError('not the submitted')")
    environment = clean_environment(home) | {
        "PYTHONPATH": str(installed),
        "AWS_ACCESS_KEY_ID": "another-key",
        "AWS_SECRET_ACCESS_KEY": "another-secret",
    }
    (home / "data.bin").write_bytes(b"not for the cluster")
    with ray_head(environment) as head:
        yield Cluster(head=head, s3=s3, home=home)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("b" * 40, "refuses the token; check RAY_AUTH_TOKEN"),
        ("", "needs a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to that of its head"),
    ],
)
def test_a_wrong_or_absent_token_is_said_and_not_shown(
    cluster: Cluster, token: str, said: str
) -> None:
    address = cluster.head.address
    ended = submit(
        *("inspect", *URIS, "--address", address),
        home=cluster.home,
        environment={"RAY_AUTH_TOKEN": token, "HOME": str(cluster.home)},
    )
    assert_refused(ended, f"inspect: the cluster at {address} {said}")


@pytest.mark.integration
def test_train_then_inspect_on_the_cluster_leave_what_they_leave_at_home(
    cluster: Cluster, tmp_path: Path, bucket: str
) -> None:
    synthetic.draw_archive(
        tmp_path, categories=["washer"], size_px=64, num_train=24, num_good=3, num_defect=3
    )
    (tmp_path / "washer" / "test" / "good" / "empty.png").touch()
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        uri = uris.join(bucket, "data", str(path.relative_to(tmp_path)))
        files.write_bytes(uri, path.read_bytes())
    models, output = f"{bucket}/models", f"{bucket}/output"

    trained = cluster.submit(
        *("train", "--data", f"{bucket}/data", "--models", models, "--preset", "tiny"),
        *("--kind", "washer=rotatable_object"),
    )
    assert trained.code == 0, trained.err
    assert trained.summary["trained"] == ["washer"]
    assert "washer: saved " in trained.err

    line = ("inspect", "--archive", f"{bucket}/data", "--include", "*/test/*")
    line = (*line, "--models", models, "--output", output, "--max-reject-fraction", "0.1")
    inspected = cluster.submit(*line)
    assert inspected.code == 1, inspected.err
    found = inspected.summary
    assert (found["listed"], found["images"], found["reject"]) == (7, 7, 1)
    assert "1 of 7 images were rejected, more than --max-reject-fraction" in inspected.err
    rows = verdicts(output)
    assert len(rows) == 7
    version = trained.summary["categories"]["washer"]["version"]
    assert {row["model_version"] for row in rows} == {version}
    assert {row["run"] for row in rows} == {found["run"]}

    again = cluster.submit(*line, "--no-wait")
    assert again.code == 0
    name = again.summary["submission_id"]
    assert f"ray job stop --address {cluster.head.address} {name}" in again.err
    info = ended_job(cluster.head, name)
    assert (info["status"], info["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert verdicts(output) == rows

    absent = cluster.submit(*line[:2], f"{bucket}/nowhere", *line[3:])
    assert (absent.code, absent.out) == (2, "")
    assert f"{bucket}/nowhere: no objects below it; check bucket and prefix" in absent.err

    texts = [trained.err, inspected.err, again.err, absent.err, again.out]
    logs = (cluster.head.folder / "session_latest" / "logs").rglob("*")
    # The servers of Ray itself log what they like; the jobs' own logs are ours to answer for.
    by_name = {path.name: path.read_text(errors="replace") for path in logs if path.is_file()}
    of_jobs = [text for log, text in by_name.items() if log.startswith("job-driver-")]
    assert len(of_jobs) == 4
    assert any(name in text for text in by_name.values())
    for text in (*texts, *by_name.values()):
        assert cluster.s3.secret_key not in text
        assert cluster.s3.access_key not in text
    for text in (*texts, *of_jobs):
        assert "Traceback" not in text
    sent = cluster.head.folder / "session_latest" / "runtime_resources" / "working_dir_files"
    names = {path.name for package in sent.glob("_ray_pkg_*/") for path in package.iterdir()}
    assert names == {"jobs", "vqad", "aws-credentials"}


def ended_job(head: Head, name: str) -> dict[str, Any]:
    import urllib.request

    asked = urllib.request.Request(
        f"{head.address}/api/jobs/{name}", headers={"Authorization": f"Bearer {head.token}"}
    )
    give_up_s = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            info = json.load(answer)
        if info["status"] in ("SUCCEEDED", "FAILED", "STOPPED"):
            return info
        assert time.monotonic() < give_up_s, info
        time.sleep(0.5)
