"""Fixtures of all tests. Those that use the S3 server or Ray are ``integration``."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.__main__ import main
from tests.support.commands import Demo, Ended, start
from tests.support.finished_inspection import Finished, finish
from tests.support.s3_server import S3Server, s3server
from vqad.storage import s3 as s3_client

CLUSTER = Path(__file__).parents[1] / "cluster"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server, to which the standard AWS variables point while tests run."""
    policies = {path.stem: path.read_text() for path in CLUSTER.glob("s3-policy-*.json")}
    with s3server(policies) as server, pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            environment.delenv(name, raising=False)
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """URI of a bucket of the test's own."""
    name = f"bucket-{secrets.token_hex(6)}"
    s3_client.request("create_bucket", Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def local_ray(s3: S3Server) -> Iterator[None]:
    """A local Ray, started after the S3 server: its workers inherit the AWS variables."""
    from vqad.on_ray import session

    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        with session.connected():
            yield


@pytest.fixture(scope="session")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Detectors and an archive, inspected once for all folders of tests that import this."""
    return finish(tmp_path_factory.getbasetemp() / "finished")


@pytest.fixture
def vqad(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The same in this process, which has imported what takes seconds."""

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        code = main([str(each) for each in arguments])
        return Ended(code=code, out=(found := capfd.readouterr()).out, err=found.err)

    return call


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`vqad demo` with few pictures: the one real training of three categories."""
    folder = tmp_path_factory.mktemp("demo") / "night"
    numbers = ("--num-train", 60, "--num-good", 8, "--num-defect", 8)
    ended = start("demo", "--output", folder, *numbers, home=folder.parent, timeout_s=550)
    return Demo(folder=folder, ended=ended)
