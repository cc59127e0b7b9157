"""Members of tar and Parquet shards: each is read once, and a cut costs only the rest."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vqad.images import shards, tar_members
from vqad.storage import files
from vqad.storage.errors import FetchError


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **kind: object) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for field, value in kind.items():
        setattr(header, field, value)
    tar.addfile(header, io.BytesIO(data) if data else None)


def tar_of(*names: str, mode: str = "w") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:
        for name in names:
            add(tar, name, name.encode() * 100)
    return sink.getvalue()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.integration)])
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, bytes], str]:
    """Store a shard and return its URI."""
    root = tmp_path.as_uri()
    if request.param == "s3":
        root = request.getfixturevalue("bucket")

    def store(name: str, data: bytes) -> str:
        uri = f"{root}/{name}"
        files.write_bytes(uri, data)
        return uri

    return store


def read(uri: str, data: bytes) -> tuple[dict[str, bytes | str], str]:
    """Contents or error words, by the part of the URI after the shard; and the final error."""
    found: dict[str, bytes | str] = {}
    try:
        for each in shards.members(uri, size_bytes=len(data)):
            found[each.image.removeprefix(uri)] = each.error or each.read()
    except FetchError as error:
        return found, error.error
    return found, ""


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_the_images_of_a_tar_come_in_order_with_their_bytes(
    keep: Callable[[str, bytes], str], ending: str
) -> None:
    names = ["b.png", "a/ü #1.jpg", "a/100%.png", "./c.png", "notes.txt", "a/.hidden.png"]
    data = tar_of(*names, mode="w" if ending == "tar" else "w:gz")
    found, error = read(keep(f"x.{ending}", data), data)
    assert error == ""
    assert found == {
        "#b.png": b"b.png" * 100,
        "#a/%C3%BC%20%231.jpg": "a/ü #1.jpg".encode() * 100,
        "#a/100%25.png": b"a/100%.png" * 100,
        "#c.png": b"./c.png" * 100,
    }


def test_later_members_of_one_name_are_numbered(keep: Callable[[str, bytes], str]) -> None:
    data = tar_of("a.png", "b.png", "a.png", "a.png", "a;2.png")
    found, _ = read(keep("x.tar", data), data)
    assert list(found) == ["#a.png", "#b.png", "#a.png;2", "#a.png;3", "#a%3B2.png"]


def test_links_devices_and_names_that_lead_out_are_refused_by_row() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        add(tar, "../up.png", b"x")
        add(tar, "/etc/passwd.png", b"x")
        add(tar, "a/../../b.png", b"x")
        add(tar, "soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.png", type=tarfile.LNKTYPE, linkname="../up.png")
        add(tar, "device.png", type=tarfile.CHRTYPE)
        add(tar, "pipe.png", type=tarfile.FIFOTYPE)
        add(tar, "folder.png", type=tarfile.DIRTYPE)
        add(tar, "good.png", b"good")
    found: dict[str, str] = {}
    for name, size, _, refusal in tar_members.read(io.BytesIO(sink.getvalue())):
        error, _ = shards._refusal(name, size, refusal)
        found[name] = error
    assert found.pop("good.png") == ""
    assert set(found) == {
        *("../up.png", "/etc/passwd.png", "a/../../b.png"),
        *("soft.png", "hard.png", "device.png", "pipe.png"),
    }
    assert set(found.values()) == {"unsupported"}


@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_cut_anywhere_gives_what_lies_before_the_cut(tmp_path: Path, packed: bool) -> None:
    names = [f"{number}.png" for number in range(6)]
    whole = tar_of(*names)
    for cut in (600, 1024, 1500, 2048, 3333, 6 * 1024):
        data = gzip.compress(whole)[:-12] if packed else whole[:cut]
        if packed:
            data = gzip.compress(whole, 0)[:cut]
        uri = (tmp_path / f"{cut}.tar").as_uri()
        files.write_bytes(uri, data)
        found, error = read(uri, data)
        num_whole = (cut - (15 if packed else 0)) // 1024
        assert list(found) == [f"#{name}" for name in names[:num_whole]], cut
        assert error == "archive_truncated", cut


def test_the_archive_says_after_how_many_members_it_ends(tmp_path: Path) -> None:
    data = tar_of("a.png", "b.png", "c.png")[:2048]
    uri = (tmp_path / "x.tar").as_uri()
    files.write_bytes(uri, data)
    with pytest.raises(FetchError, match=r"^the archive ends early or is broken after 2 members$"):
        list(shards.members(uri, size_bytes=len(data)))


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("x.tar", b"", "empty"),
        ("x.tar", b"this is no tar " * 100, "unreadable"),
        ("x.tar.gz", gzip.compress(b"this is no tar " * 100), "unreadable"),
        ("x.parquet", b"PAR1 something that ends early", "archive_truncated"),
        ("x.parquet", b"this is no parquet", "unreadable"),
        ("x.tar", b"\x80\x04pickle", "unreadable"),
    ],
)
def test_what_is_no_shard_is_one_error(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    uri = (tmp_path / name).as_uri()
    files.write_bytes(uri, data)
    assert read(uri, data) == ({}, error)


def test_a_header_that_asks_for_gigabytes_is_not_believed(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        add(tar, "a.png", b"x")
    header = tarfile.TarInfo("long")
    header.type, header.size = b"L", 2**33
    data = sink.getvalue()[:1024] + header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    uri = (tmp_path / "x.tar").as_uri()
    files.write_bytes(uri, data)
    assert read(uri, data) == ({"#a.png": b"x"}, "archive_truncated")


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("huge.png")
    header.size = shards.MAX_BYTES + 1
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(header.tobuf())
        file.seek(1024 + shards.MAX_BYTES)  # a hole, which takes no room on the disk
        file.write(tar_of("b.png"))
    size_bytes = (tmp_path / "x.tar").stat().st_size
    found = list(shards.members((tmp_path / "x.tar").as_uri(), size_bytes=size_bytes))
    assert [(each.name, each.error) for each in found] == [("huge.png", "too_large"), ("b.png", "")]
    assert found[0].error_detail == f"{shards.MAX_BYTES + 1} bytes, more than {shards.MAX_BYTES}"


@pytest.mark.parametrize("layout", ["plain", "struct", "unnamed"])
def test_the_images_of_a_parquet_file(keep: Callable[[str, bytes], str], layout: str) -> None:
    contents = [f"{number}".encode() * 1000 for number in range(100)]
    names = [f"a/{number}.png" for number in range(99)] + ["a/0.png"]
    if layout == "struct":
        rows = [{"bytes": data, "path": name} for data, name in zip(contents, names, strict=True)]
        table = pa.table({"image": rows, "label": [0] * 100})
    else:
        table = pa.table({"label": [0] * 100, "image": pa.array(contents, pa.large_binary())})
        if layout == "plain":
            table = table.append_column("file_name", [names])
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=40)
    found, error = read(keep("x.parquet", sink.getvalue()), sink.getvalue())
    expected = [f"#{number:06}" for number in range(100)]
    if layout != "unnamed":
        expected = [f"#{name}" for name in names[:99]] + ["#a/0.png;2"]
    assert error == ""
    assert found == dict(zip(expected, contents, strict=True))


def test_a_parquet_file_without_pictures_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": ["a.png"], "category": ["a"]}), path)
    with pytest.raises(FetchError, match=r"^Parquet without a column of image bytes$") as caught:
        list(shards.members(path.as_uri(), size_bytes=path.stat().st_size))
    assert caught.value.error == "unsupported"


def test_a_single_member_is_found_by_its_uri(keep: Callable[[str, bytes], str]) -> None:
    data = tar_of("a.png", "b.png")
    uri = keep("x.tar", data)
    assert shards.size_of(uri) == len(data)
    assert shards.read_member(f"{uri}#b.png", size_bytes=len(data)) == b"b.png" * 100
    with pytest.raises(FetchError, match=r"^no such member$"):
        shards.read_member(f"{uri}#c.png", size_bytes=len(data))


@pytest.mark.integration
def test_a_shard_that_changes_while_it_is_read_is_not_mixed(bucket: str) -> None:
    uri = f"{bucket}/x.tar"
    files.write_bytes(uri, tar_of(*[f"{number}.png" for number in range(50)]))
    with pytest.raises(FetchError, match=r"^the archive changed while it was read$"):
        list(shards.members(uri, size_bytes=9999, etag="0123456789abcdef0123456789abcdef"))
