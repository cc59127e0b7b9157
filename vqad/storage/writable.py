"""Check that a folder can be written to before anything is started that takes long."""

import os
import secrets
from pathlib import Path

from vqad.storage import s3
from vqad.storage.errors import ArchiveError, FetchError
from vqad.storage.files import WRITING
from vqad.storage.uris import is_remote, path_of


def check(uri: str, option: str) -> None:
    """Raise ArchiveError if nothing can be written below a folder, which need not exist yet.

    ``option`` is the flag that the folder was given with.
    """
    if is_remote(uri):
        _check_bucket(uri, option)
    else:
        _check_folder(Path(path_of(uri)), option)


def _check_folder(folder: Path, option: str) -> None:
    """Create a file in the nearest folder that exists, and remove it again.

    Permissions alone do not tell: nobody can create a file in /proc or on a read-only disk.
    """
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise ArchiveError(f"{option} {folder}: {nearest} is not a folder; give another folder")
    probe = nearest / f"{WRITING}{secrets.token_hex(8)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ArchiveError(
            f"{option} {folder}: no file can be created in {nearest} ({reason}); give another "
            "folder, or change its permissions"
        ) from error


def _check_bucket(uri: str, option: str) -> None:
    """Ask for the first keys: a store says so of a bucket that is not there.

    A key that may write and not list is left alone: the first write will show it.
    """
    bucket, key = s3.bucket_and_key(uri)
    try:
        next(s3.pages(bucket, s3.folder(key), "/"))
    except FetchError as failure:
        if failure.error == "denied" and failure.detail == "access denied":
            return
        raise ArchiveError(f"{option} {uri}: {failure.detail}; {failure.remedy}") from None
