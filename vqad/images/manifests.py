"""Manifests: tables of image URIs and their categories, given with an archive or as the archive.

If the manifest is itself the archive, each image that it names is looked up on storage. An image
that doesn't exist is listed all the same, so that it gets a row with the error ``missing``.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Final

import pandas as pd

from vqad.images import parquet_rows, shards
from vqad.images.listing import Listed, object_of, of_local
from vqad.storage import errors, files, s3
from vqad.storage.errors import FetchError
from vqad.storage.uris import absolute, is_remote, path_of
from vqad.tables import UNKNOWN_CATEGORY

LARGEST_BYTES: Final = 2**30
_NUM_THREADS: Final = 32  # each looks up one image at a time
_COLUMNS: Final = ("image", "category")


def read(uri: str) -> dict[str, str]:
    """Categories by image URI. Raises ValueError if the file is not such a table."""
    try:
        data = files.read_bytes(uri, max_bytes=LARGEST_BYTES)
    except errors.FetchError as error:
        raise ValueError(f"manifest {uri}: {error}") from error
    try:
        table = (
            pd.read_csv(BytesIO(data), dtype=str, keep_default_na=False)
            if uri.lower().endswith(".csv")
            else pd.read_parquet(BytesIO(data), columns=list(_COLUMNS))
        )
        # As lists: a column of Arrow decodes its text only when a value is asked for.
        images, categories = (table[name].fillna("").astype(str).tolist() for name in _COLUMNS)
    except MemoryError:
        raise
    except Exception as error:  # which ones parsers raise for broken bytes can't be enumerated
        raise ValueError(
            f"manifest {uri} must be Parquet or CSV with columns image and category: {error}"
        ) from error
    rows = enumerate(zip(images, categories, strict=True), start=1)
    return {
        _image_in(uri, number, image): category or UNKNOWN_CATEGORY
        for number, (image, category) in rows
    }


def _image_in(manifest: str, row: int, image: str) -> str:
    try:
        return absolute(image)
    except errors.ArchiveError as error:
        raise ValueError(f"manifest {manifest}, row {row}: {error}") from error


def is_manifest(archive: str) -> bool:
    """True if an archive is a table that names images but does not contain them."""
    if archive.lower().endswith(".csv"):
        return True
    if not archive.lower().endswith(".parquet"):
        return False
    # Other code reports a folder, a missing file or a broken file better than this test can.
    with suppress(FetchError):
        schema = shards.schema_of(archive)
        return all(parquet_rows.is_text(schema, name) for name in _COLUMNS)
    return False


def look_up(by_image: Mapping[str, str]) -> list[Listed]:
    """Look up each image that a manifest names, and each shard once of which it names members."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(_look_up, sorted({each.partition("#")[0] for each in by_image})))


def _look_up(uri: str) -> Listed:
    # The same error occurs again, and is reported, when the image is read.
    with suppress(FetchError, OSError, ValueError):  # ValueError: a zero byte in a path
        if not is_remote(uri):
            path = path_of(uri)
            return of_local(path, Path(path).stat())
        bucket, key = s3.bucket_and_key(uri)
        if found := s3.head(bucket, key):
            return object_of(bucket, {"Key": key, "Size": found["ContentLength"], **found})
    return Listed(image=uri, size_bytes=0, etag="", modified_at=None)
