"""An output that cannot be written is found before anything is started, with the right reason."""

import re
from pathlib import Path

import pytest

from vqad.storage import s3, writable
from vqad.storage.errors import ArchiveError, FetchError


def test_a_folder_that_exists_or_not_is_left_as_it_was(tmp_path: Path) -> None:
    writable.check(str(tmp_path), "--output")
    writable.check(f"file://{tmp_path}/a/b", "--output")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "/verdicts", "/a/b"])
def test_a_file_in_the_way_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = f"{tmp_path}/file"
    with pytest.raises(ArchiveError) as caught:
        writable.check(place + below, "--output")
    assert str(caught.value) == (
        f"--output {place}{below}: {place} is not a folder; give another folder"
    )


def test_a_link_to_nowhere_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ArchiveError, match=rf"{tmp_path}/link is not a folder; give another"):
        writable.check(str(tmp_path / "link" / "out"), "--output")


@pytest.mark.parametrize("place", ["/proc", "/proc/vqad/out"])
def test_where_the_system_creates_no_files_it_is_said(place: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        writable.check(place, "--models")
    assert re.fullmatch(
        rf"--models {place}: no file can be created in /proc \([a-z ]+\); give another folder, or "
        "change its permissions",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            FetchError("missing", "no such bucket", "check its name, or create it"),
            "--output s3://b/out: no such bucket; check its name, or create it",
        ),
        (
            FetchError("denied", "no credentials", "set AWS_ACCESS_KEY_ID"),
            "--output s3://b/out: no credentials; set AWS_ACCESS_KEY_ID",
        ),
        (FetchError("denied", "access denied", "check the permissions"), ""),
    ],
)
def test_a_bucket_is_asked_for(
    failure: FetchError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages(bucket: str, prefix: str, delimiter: str) -> None:
        assert (bucket, prefix, delimiter) == ("b", "out/", "/")
        raise failure

    monkeypatch.setattr(s3, "pages", pages)
    if not said:
        writable.check("s3://b/out", "--output")
        return
    with pytest.raises(ArchiveError) as caught:
        writable.check("s3://b/out", "--output")
    assert str(caught.value) == said


@pytest.mark.integration
def test_a_bucket_that_does_not_exist_is_said_by_a_real_store(bucket: str) -> None:
    writable.check(f"{bucket}/new/prefix", "--output")
    with pytest.raises(ArchiveError, match=r"^--output s3://absent-bucket/a: no such bucket; chec"):
        writable.check("s3://absent-bucket/a", "--output")
