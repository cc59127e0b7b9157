"""Listing, reading and writing in local folders; what holds for both kinds of storage."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vqad.images import listing
from vqad.storage import files, uris
from vqad.storage.errors import ArchiveError, FetchError

DENIED_TO_ALL = os.geteuid() == 0  # the permissions of files mean nothing to root


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.integration)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place on either kind of storage, with a space in its name."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/my archive"
    return str(tmp_path / "my archive")


def fill(root: str, *names: str) -> None:
    for name in names:
        files.write_bytes(uris.join(root, name), name.encode())


def listed(root: str, **narrowed: object) -> list[str]:
    return names(listing.list_images(root, **narrowed), root)


def names(found: list[listing.Listed], root: str) -> list[str]:
    return [uris.relative(each.image, root) for each in found]


ODD_NAMES = [
    "a b.png",
    "a#b.png",
    "a%20b.png",
    "a;2.png",
    "a?b.png",
    "100%.png",
    "ünï.png",
    "+.png",
]


def test_images_are_listed_recursively_and_sorted_by_uri(root: str) -> None:
    fill(root, "b/2.png", "a/10.JPG", "a/9.tiff", "c.webp", "a-b/1.gif", "b/README.txt", "d.json")
    uris = [each.image for each in listing.list_images(root)]
    assert uris == sorted(uris)
    assert set(listed(root)) == {"b/2.png", "a/10.JPG", "a/9.tiff", "c.webp", "a-b/1.gif"}


def test_odd_names_are_listed_read_and_related_to_their_archive(root: str) -> None:
    fill(root, *(f"cat/{name}" for name in ODD_NAMES))
    found = listing.list_images(root)
    assert sorted(listed(root)) == sorted(f"cat/{name}" for name in ODD_NAMES)
    for each in found:
        content = files.read_bytes(each.image, max_bytes=100).decode()
        assert content == uris.relative(each.image, root)
        assert each.image.isascii()
        assert "#" not in each.image


def test_a_listing_tells_size_time_and_a_tag_that_follows_the_content(root: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    fill(root, "a.png")
    (first,) = listing.list_images(root)
    assert first.size_bytes == len("a.png")
    assert before <= first.modified_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert first.modified_at.utcoffset() == timedelta(0)
    assert listing.list_images(root) == [first]
    files.write_bytes(first.image, b"other")
    (second,) = listing.list_images(root)
    assert second.etag != first.etag
    assert '"' not in second.etag


def test_hidden_files_and_ground_truth_are_never_listed(root: str) -> None:
    fill(root, "a.png", ".b.png", ".c/d.png", "ground_truth/e.png", "f/ground_truth/g/h.png")
    fill(root, "ground_truth.png", "f/not_ground_truth/i.png")
    assert listed(root) == ["a.png", "f/not_ground_truth/i.png", "ground_truth.png"]


def test_files_of_other_suffixes_are_counted_where_they_could_have_been_images(root: str) -> None:
    fill(root, "a/1.png", "a/2.TGA", "3.tga", "b.ppm", "README", ".x.ppm", "ground_truth/m.tga")
    fill(root, "out/run.json", "c.parquet")
    found = listing.list_archive(root, outside=[uris.join(root, "out")])
    assert names(found.listed, root) == ["a/1.png", "c.parquet"]
    assert found.left_out == {".tga": 2, ".ppm": 1, "": 1}
    assert listing.list_archive(root, include="a/*").left_out == {".tga": 1}
    later = datetime.now(UTC) + timedelta(days=1)
    assert not listing.list_archive(root, modified_since=later).left_out


def test_include_is_a_glob_on_the_path_below_the_archive(root: str) -> None:
    fill(root, "bottle/test/1.png", "bottle/train/2.png", "pill/test/3.png", "4.png")
    assert listed(root, include="bottle/*") == ["bottle/test/1.png", "bottle/train/2.png"]
    assert listed(root, include="*/test/*") == ["bottle/test/1.png", "pill/test/3.png"]
    assert listed(root, include="?.png") == ["4.png"]
    assert listed(root, include="BOTTLE/*") == []


def test_only_images_modified_since_a_moment_are_listed(root: str) -> None:
    fill(root, "a.png")
    moment = listing.list_images(root)[0].modified_at
    assert listed(root, modified_since=moment) == ["a.png"]
    assert listed(root, modified_since=moment + timedelta(microseconds=1)) == []


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^modified_since must have a time zone, got 2026-01-01"):
        listing.list_images("/data", modified_since=datetime(2026, 1, 1))


def test_a_limit_keeps_the_first_in_order(root: str) -> None:
    fill(root, "c.png", "a.png", "b.png")
    assert listed(root, limit=2) == ["a.png", "b.png"]
    assert listed(root, limit=9) == ["a.png", "b.png", "c.png"]
    assert listed(root, limit=0) == []


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^limit must be at least 0, got -1$"):
        listing.list_images("/data", limit=-1)


def test_the_uri_of_a_single_image_lists_that_one(root: str) -> None:
    fill(root, "a b.png", "a b.png.bak/c.png")
    image = uris.join(root, "a b.png")
    (found,) = listing.list_images(image)
    assert found.image == uris.absolute(image)
    assert found.size_bytes == len("a b.png")
    assert uris.relative(found.image, image) == "a b.png"


def test_a_folder_with_the_name_of_an_image_is_still_a_folder(root: str) -> None:
    fill(root, "a.png/b.png")
    assert listed(uris.join(root, "a.png")) == ["b.png"]


def test_a_folder_without_images_lists_none(root: str) -> None:
    fill(root, "notes.txt")
    assert listing.list_images(root) == []


def test_what_is_not_there_is_missing(root: str) -> None:
    fill(root, "a.png")
    with pytest.raises(FetchError, match=r"^no such (file or folder|object)$") as caught:
        files.read_bytes(uris.join(root, "b.png"), max_bytes=100)
    assert caught.value.error == "missing"


def test_more_bytes_than_allowed_are_too_large(root: str) -> None:
    fill(root, "12345")
    uri = uris.join(root, "12345")
    assert files.read_bytes(uri, max_bytes=5) == b"12345"
    with pytest.raises(FetchError, match=r"^5 bytes, more than 4$") as caught:
        files.read_bytes(uri, max_bytes=4)
    assert caught.value.error == "too_large"


def test_an_empty_file_is_read_as_no_bytes(root: str) -> None:
    uri = uris.join(root, "empty.png")
    files.write_bytes(uri, b"")
    assert files.read_bytes(uri, max_bytes=10) == b""
    assert listing.list_images(root)[0].size_bytes == 0


def test_writing_again_replaces(root: str) -> None:
    uri = uris.join(root, "x")
    files.write_bytes(uri, b"long content")
    files.write_bytes(uri, b"short")
    assert files.read_bytes(uri, max_bytes=100) == b"short"


def test_a_thing_exists_as_a_file_or_as_a_folder(root: str) -> None:
    assert not files.exists(root)
    fill(root, "a/b.png")
    for there in ((), ("a",), ("a", "b.png")):
        assert files.exists(uris.join(root, *there))
    for not_there in (("b",), ("a", "b"), ("a", "b.png", "c")):
        assert not files.exists(uris.join(root, *not_there))


def test_names_of_children_are_sorted_and_decoded(root: str) -> None:
    fill(root, "b c/x.png", "a#.json", ".runs/y", "a/z")
    assert files.list_names(root) == [".runs", "a", "a#.json", "b c"]
    assert files.list_names(uris.join(root, "b c")) == ["x.png"]


def test_children_are_told_apart_as_files_and_folders(root: str) -> None:
    fill(root, "a.txt", "b/c.txt", "d")
    assert files.list_children(root) == {"a.txt": False, "b": True, "d": False}


def test_names_below_nothing_are_an_error_that_says_so(root: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        files.list_names(root)
    assert str(caught.value) in (
        f"{root}: no such file or folder; check the path",
        f"{root}: no objects below it; check bucket and prefix",
    )


def test_deleting_twice_is_deleting_once(root: str) -> None:
    fill(root, "a.png", "b.png")
    for _ in range(2):
        files.delete(uris.join(root, "a.png"))
    assert files.list_names(root) == ["b.png"]


# Local folders only.


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        listing.list_images(f"{tmp_path}/nowhere")
    assert str(caught.value) == f"{tmp_path}/nowhere: no such file or folder; check the path"


def test_a_file_that_is_no_image_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ArchiveError, match=r"a.txt: neither a folder nor an image; give a folder"):
        listing.list_images(str(tmp_path / "a.txt"))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    fill(str(tmp_path / "elsewhere"), "1.png")
    fill(str(tmp_path / "archive"), "a/2.png")
    (tmp_path / "archive" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive" / "a" / "up").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "itself").symlink_to("itself")
    (tmp_path / "archive" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert listed(str(tmp_path / "archive")) == ["3.png", "a/2.png", "linked/1.png"]


def test_a_link_to_nothing_is_listed_and_then_missing(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone.png")
    (each,) = listing.list_images(str(tmp_path))
    with pytest.raises(FetchError) as caught:
        files.read_bytes(each.image, max_bytes=10)
    assert caught.value.error == "missing"


def test_a_pipe_is_neither_listed_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert listing.list_images(str(tmp_path)) == []
    with pytest.raises(FetchError, match=r"^not a regular file$"):
        files.read_bytes(str(tmp_path / "a.png"), max_bytes=10)


def test_a_name_that_is_no_utf8_is_listed_and_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (each,) = listing.list_images(str(tmp_path))
    assert each.image.endswith("/caf%E9.png")
    assert files.read_bytes(each.image, max_bytes=10) == b"x"


@pytest.mark.skipif(DENIED_TO_ALL, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(mode=0)
    with pytest.raises(FetchError, match=r"^access denied$") as caught:
        files.read_bytes(str(tmp_path / "a.png"), max_bytes=10)
    assert caught.value.error == "denied"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "a.json")
    files.write_bytes(uri, b"old")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArchiveError) as caught:
        files.write_bytes(uri, b"new")
    assert str(caught.value) == f"{uri}: no space left on device; check the disk"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    files.write_bytes(str(tmp_path / "written"), b"")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_file_that_is_being_written_is_not_yet_a_name(tmp_path: Path) -> None:
    (tmp_path / ".writing-0123").touch()
    (tmp_path / "whole").touch()
    assert files.list_names(str(tmp_path)) == ["whole"]


def test_a_file_in_the_way_of_a_folder_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ArchiveError, match=rf"^{tmp_path}/a/b: .*; check the (path|disk)$"):
        files.write_bytes(str(tmp_path / "a" / "b"), b"")
