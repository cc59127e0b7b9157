"""The keys of each job do what the job needs on a real S3 server, and can't do more."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import inspection_by_hand, small_detectors
from tests.support.kuberay_schemas import ROOT
from tests.support.s3_server import S3Server
from vqad.inspection import run_report
from vqad.inspection.job import InspectJob
from vqad.inspection.summary import InspectSummary
from vqad.on_ray.checkpoint_folder import CheckpointFolder
from vqad.storage import files, lease
from vqad.storage import s3 as s3_client
from vqad.storage.errors import ArchiveError, FetchError

FACTORY = "s3://factory"
WRITING = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


def statements(job: str) -> dict[str, dict[str, list[str]]]:
    text = (ROOT / "cluster" / f"s3-policy-{job}.json").read_text()
    return {each["Sid"]: each for each in json.loads(text)["Statement"]}


def test_only_training_may_write_models_and_only_inspection_output() -> None:
    for job, sid, folder in (
        ("inspect", "WriteOutput", "inspected"),
        ("train", "WriteModels", "models"),
    ):
        writing = {
            sid: each for sid, each in statements(job).items() if set(each["Action"]) & set(WRITING)
        }
        assert writing.keys() == {sid}
        assert writing[sid]["Action"] == WRITING
        assert writing[sid]["Resource"] == [f"arn:aws:s3:::factory/{folder}/*"]
        every_action = {action for each in statements(job).values() for action in each["Action"]}
        assert every_action == {"s3:ListBucket", "s3:GetObject", *WRITING}


@contextmanager
def keys_of(s3: S3Server, job: str) -> Iterator[None]:
    """The keys that the Secret of a job holds, in this process."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3.limited_to(f"s3-policy-{job}").environment.items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def factory(s3: S3Server, tmp_path: Path) -> None:
    """The bucket that the manifests name, with good images and a night of them."""
    s3_client.request("create_bucket", Bucket="factory")
    small_detectors.draw(tmp_path / "good", ("fabric",))
    for path in tmp_path.rglob("*.png"):
        inside = path.relative_to(tmp_path / "good")
        for place in ("good", "2026-11-24"):
            files.write_bytes(f"{FACTORY}/{place}/{inside}", path.read_bytes())


def keep_a_checkpoint(run: str) -> None:
    """What Ray Train does in the folder of a run, with a file of more than one upload's size."""
    folder = CheckpointFolder(run=run, name="fabric")
    filesystem, path = folder.storage()
    filesystem.create_dir(f"{path}/fabric")
    with filesystem.open_output_stream(f"{path}/fabric/weights") as stream:
        for _ in range(3):
            stream.write(bytes(6 * 2**20))
    assert filesystem.get_file_info(f"{path}/fabric/weights").size == 18 * 2**20
    folder.remove()


def assert_denied(*uris: str) -> None:
    for uri in uris:
        with pytest.raises((ArchiveError, FetchError), match="denied"):
            files.write_bytes(uri, b"x")


@pytest.mark.integration
@pytest.mark.usefixtures("factory")
def test_the_keys_of_each_job_suffice_for_it_and_write_nothing_else(s3: S3Server) -> None:
    with keys_of(s3, "train"):
        version = small_detectors.save_detector(f"{FACTORY}/models", "fabric", f"{FACTORY}/good")
        keep_a_checkpoint(f"{FACTORY}/models/.runs/run")
        assert_denied(f"{FACTORY}/good/new.png", f"{FACTORY}/inspected/run.json")
    with keys_of(s3, "inspect"):
        job = InspectJob(
            archive=f"{FACTORY}/2026-11-24",
            models=f"{FACTORY}/models",
            output=f"{FACTORY}/inspected/2026-11-24",
        )
        with lease.held(job.output, "run") as held:
            plan = inspection_by_hand.inspect(job)
            held.check()
            run_report.write_run(job, InspectSummary(run="run", skipped=0, versions=plan.versions))
        assert inspection_by_hand.make_plan(job).num_skipped == plan.num_todo > 0
        assert_denied(
            f"{FACTORY}/models/fabric/current.json",
            f"{FACTORY}/models/fabric/{version}/detector.json",
            f"{FACTORY}/2026-11-24/fabric/new.png",
        )
        with pytest.raises((ArchiveError, FetchError), match="denied"):
            files.read_bytes(next(iter(good_images())), max_bytes=2**20)


def good_images() -> list[str]:
    page = next(s3_client.pages("factory", "good/"))
    return [f"s3://factory/{each['Key']}" for each in page["Contents"]]
