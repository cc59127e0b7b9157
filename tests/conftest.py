"""Fixtures of all tests. Those that use the S3 server are ``integration``."""

import secrets
from collections.abc import Iterator

import pytest

from tests.s3server import S3Server, s3server
from vqad import s3 as s3_client


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server, to which the standard AWS variables point while tests run."""
    with s3server() as server, pytest.MonkeyPatch.context() as environment:
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
