"""Object storage: one client per process, and the requests that the program makes.

Endpoint and credentials come from the standard AWS variables only. The client is that of s3fs.
Requests give bucket and key separately, because s3fs can't split every path correctly. Listings
are not cached, because other programs write to the store as well. The client's libraries are loaded
with the first request: that takes half a second of each process, which local files don't need.
"""

import os
import re
import threading
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any, Final

from vqad.storage.errors import FetchError
from vqad.storage.retries import ATTEMPTS, ATTEMPTS_INTERACTIVE, with_retries
from vqad.storage.uris import endpoint, path_of

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
NUM_CONNECTIONS: Final = 32  # per process: one for each of up to 32 threads

_LOCK = threading.Lock()
_clients: dict[tuple[int, frozenset[tuple[str, str]]], Any] = {}


def client() -> Any:
    """The s3fs file system of this process for the current AWS variables."""
    settings = frozenset(pair for pair in os.environ.items() if pair[0].startswith("AWS_"))
    owner = (os.getpid(), settings)  # a forked process can't use its parent's connections
    with _LOCK:
        if owner not in _clients:
            connected = _connected()
            _clients.clear()
            _clients[owner] = connected
        return _clients[owner]


def _connected() -> Any:
    if endpoint() and not re.match(r"https?://[^/@]+(/|$)", endpoint()):
        # A URL with user and password can't be used for signing, and must not be printed.
        remedy = "set AWS_ENDPOINT_URL to http://HOST:PORT or https://HOST"
        raise FetchError("fetch_failed", "the endpoint is not a plain URL", remedy)
    import s3fs

    region = os.environ.get("AWS_REGION")  # pyarrow reads it, botocore does not
    store = s3fs.S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "max_pool_connections": NUM_CONNECTIONS,
            "retries": {"total_max_attempts": 1},
        },
    )
    store.retries = 1  # vqad.storage.retries does all retries
    with_retries(store.connect, attempts=1)
    return store


def request(method: str, *, attempts: int = ATTEMPTS_INTERACTIVE, **parameters: Any) -> Any:
    """Make one request, such as ``head_object``, and return its response; raises FetchError."""
    store = client()
    return with_retries(lambda: store.call_s3(method, **parameters), attempts=attempts)


def put_file(bucket: str, key: str, file: BufferedIOBase, *, content_type: str) -> None:
    """Write an open file, from its start, as an object of at most 5 GiB; raises FetchError."""
    store = client()

    def put() -> None:
        file.seek(0)  # a failed attempt has read some of it
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=file, ContentType=content_type)

    with_retries(put, attempts=ATTEMPTS)


def pages(bucket: str, prefix: str, delimiter: str = "") -> Iterator[dict[str, Any]]:
    """Responses of ``list_objects_v2``, up to 1,000 keys each; raises FetchError."""
    position: dict[str, Any] = {}
    while True:
        page = request(
            "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter=delimiter, **position
        )
        yield page
        if not page.get("IsTruncated"):
            return
        position = {"ContinuationToken": page["NextContinuationToken"]}


def read(bucket: str, key: str, *, max_bytes: int) -> bytes:
    """All bytes of an object; raises FetchError."""
    return read_tagged(bucket, key, max_bytes=max_bytes)[0]


def read_tagged(bucket: str, key: str, *, max_bytes: int, **narrowed: str) -> tuple[bytes, str]:
    """Bytes and ETag of an object; ``narrowed`` may be ``Range`` and ``IfMatch``."""
    from fsspec.asyn import sync

    store = client()
    return with_retries(lambda: sync(store.loop, _read, store, bucket, key, max_bytes, narrowed))


async def _read(
    store: Any, bucket: str, key: str, max_bytes: int, narrowed: dict[str, str]
) -> tuple[bytes, str]:
    answer = await store._call_s3("get_object", Bucket=bucket, Key=key, **narrowed)
    num_bytes = int(answer["ContentLength"])
    async with answer["Body"] as body:
        if num_bytes > max_bytes:
            raise FetchError("too_large", f"{num_bytes} bytes, more than {max_bytes}")
        data: bytes = await body.read()
    if len(data) != num_bytes:
        raise EOFError(f"{len(data)} bytes of {num_bytes}")
    return data, answer.get("ETag", "")


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Bucket and decoded key of ``s3://bucket/key``."""
    bucket, _, key = path_of(uri).partition("/")
    return bucket, key


def folder(key: str) -> str:
    """The prefix of all keys below a key."""
    return f"{key}/" if key else ""


def head(bucket: str, key: str) -> dict[str, Any] | None:
    """Size, time and ETag of an object (a HEAD response); None if there is no such object."""
    try:
        answer: dict[str, Any] = request("head_object", Bucket=bucket, Key=key)
    except FetchError as failure:
        if failure.error == "missing":
            return None
        raise
    return answer
