"""Whatever goes wrong while a file is read at any position is a FetchError of the store."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from vqad.storage import random_access, retries
from vqad.storage.errors import FetchError
from vqad.storage.random_access import opened


def test_a_local_file_is_read_at_any_position(tmp_path: Path) -> None:
    data = os.urandom(2**19)
    (tmp_path / "x.tar").write_bytes(data)
    with opened((tmp_path / "x.tar").as_uri(), size_bytes=len(data)) as file:
        assert file.read(7) == data[:7]
        assert file.seek(300_000) == 300_000
        assert file.read() == data[300_000:]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with (
        pytest.raises(FetchError, match=r"^not a regular file$") as caught,
        opened((tmp_path / "x.tar").as_uri(), size_bytes=1),
    ):
        pass
    assert caught.value.error == "fetch_failed"


def test_a_disk_that_fails_while_a_file_is_read_is_tried_again_and_is_the_stores_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_reads = 0

    class Failing(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            nonlocal num_reads
            num_reads += 1
            raise OSError(errno.EIO, "input/output error")

    (tmp_path / "x.tar").write_bytes(b"x")
    monkeypatch.setattr(retries, "pause", lambda seconds: None)
    monkeypatch.setattr(random_access, "_open_locally", Failing)
    uri = (tmp_path / "x.tar").as_uri()
    with (
        pytest.raises(FetchError, match=r"^input/output error$") as caught,
        opened(uri, size_bytes=9) as file,
    ):
        file.read(9)
    assert (caught.value.error, num_reads) == ("fetch_failed", retries.ATTEMPTS)
