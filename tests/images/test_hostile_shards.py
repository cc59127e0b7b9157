"""Shards that were made to break their reader cost one row, little time and little memory."""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.images.test_shards import tar_of
from vqad.images import parquet_rows, shard_contents, shards
from vqad.storage.errors import FetchError

MOST_BYTES = 64 * 2**20
MOST_S = 10.0


@contextmanager
def bounds() -> Iterator[None]:
    """Fail if the block takes long or much memory."""
    tracemalloc.start()
    start_s = time.monotonic()
    try:
        yield
        took_s, (_, peak_bytes) = time.monotonic() - start_s, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took_s < MOST_S
    assert peak_bytes < MOST_BYTES


def read(folder: Path, name: str, data: bytes) -> tuple[dict[str, bytes | str], str, str]:
    """Content or error word of each member by its name, and the final error word and detail."""
    (folder / name).write_bytes(data)
    found: dict[str, bytes | str] = {}
    error = detail = ""
    with bounds():
        try:
            for each in shards.members((folder / name).as_uri(), size_bytes=len(data)):
                found[each.name] = each.error or each.read()
        except FetchError as failure:
            error, detail = failure.error, failure.detail
    return found, error, detail


def assert_breaks_after(
    first: str, result: tuple[dict[str, bytes | str], str, str], why: str
) -> None:
    found, error, detail = result
    assert list(found) == [first]
    expected = f"the archive ends early or is broken after 1 members{why}"
    assert (error, detail) == ("archive_truncated", expected)


def header(
    kind: bytes, data: bytes = b"", *, name: str = "x.png", size: int | None = None
) -> bytes:
    """One header of a kind with its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


FIRST = tar_of("first.png")[: 512 + 1024]
LAST = tar_of("last.png")
READ = {"first.png": b"first.png" * 100, "last.png": b"last.png" * 100}


@pytest.mark.parametrize(
    ("kind", "data"), [(b"x", record("comment", "c")), (b"L", b"long.png\0"), (b"g", b"")]
)
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_thousands_of_headers_of_one_member_end_the_shard(
    tmp_path: Path, kind: bytes, data: bytes, ending: str
) -> None:
    content = FIRST + header(kind, data) * 3000 + LAST
    content = gzip.compress(content) if ending == "tar.gz" else content
    result = read(tmp_path, f"x.{ending}", content)
    assert_breaks_after("first.png", result, ": a member has more than 32 headers")


def test_headers_of_a_megabyte_each_end_the_shard(tmp_path: Path) -> None:
    data = header(b"x", record("path", "a" * 700_000 + ".png"))
    packed = gzip.compress(FIRST + data + data + LAST)
    why = ": the headers of a member have more than 1048576 bytes"
    assert_breaks_after("first.png", read(tmp_path, "x.tar.gz", packed), why)


def test_a_name_of_almost_a_megabyte_costs_its_member_one_row(tmp_path: Path) -> None:
    names = [f"{number:04}" + "a" * 1_000_000 + ".png" for number in range(20)]
    named = [header(b"x", record("path", name)) + header(b"0", b"x") for name in names]
    packed = gzip.compress(FIRST + b"".join(named) + LAST)
    found, error, _ = read(tmp_path, "x.tar.gz", packed)
    assert error == ""
    assert {name: found.pop(name) for name in READ} == READ
    assert len(found) == 20
    assert set(found.values()) == {"unsupported"}
    assert all(re.fullmatch(r"\d{4}a{196}\.\.\.[0-9a-f]{32}", name) for name in found)
    members = list(shards.members((tmp_path / "x.tar.gz").as_uri(), size_bytes=len(packed)))
    assert members[1].error_detail == "a name of more than 4096 bytes"


def test_sixty_thousand_global_keys_are_not_kept(tmp_path: Path) -> None:
    keys = b"".join(record(f"k{number}", "v") for number in range(60_000))
    assert 700_000 < len(keys) < 2**20
    members = b"".join(header(b"0", b"x", name=f"{number}.png") for number in range(200))
    data = gzip.compress(FIRST + header(b"g", keys) + members + LAST)
    found, error, _ = read(tmp_path, "x.tar.gz", data)
    assert error == ""
    assert len(found) == 202


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ("9" * 30, "a member states a size that is no number"),
        ("9" * 85_000, "a member states a size that is no number"),
        ("9" * 18, "a member states a size that the archive can't contain"),
        ("-1", "a member states a size that is no number"),
        ("", "a member states a size that is no number"),
    ],
)
def test_a_size_that_no_archive_has_ends_the_shard(tmp_path: Path, size: str, why: str) -> None:
    data = FIRST + header(b"x", record("size", size)) + LAST
    assert_breaks_after("first.png", read(tmp_path, "x.tar", data), f": {why}")
    assert_breaks_after("first.png", read(tmp_path, "x.tar.gz", gzip.compress(data)), f": {why}")


@pytest.mark.parametrize(
    "records",
    [
        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0"),
        record("GNU.sparse.map", "0,1"),
        record("GNU.sparse.size", "9" * 30),
    ],
)
def test_a_sparse_file_costs_one_row(tmp_path: Path, records: bytes) -> None:
    sparse = record("GNU.sparse.name", "sparse.png") + records
    numbers = b"100000000\n" + b"1\n" * 100_000
    data = FIRST + header(b"x", sparse) + header(b"0", numbers) + LAST
    found, error, _ = read(tmp_path, "x.tar.gz", gzip.compress(data))
    assert (found, error) == (READ | {"sparse.png": "unsupported"}, "")


def old_sparse(num_blocks: int, *, is_last: bool) -> bytes:
    """A header of GNU's oldest sparse format, with more blocks of its map after it."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, name="sparse.png"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = bytes(504) + b"\1" + bytes(7)
    return bytes(block) + more * (num_blocks - 1) + (bytes(512) if is_last else more)


def test_an_old_sparse_file_costs_one_row(tmp_path: Path) -> None:
    found, error, _ = read(tmp_path, "x.tar", FIRST + old_sparse(3, is_last=True) + LAST)
    assert (found, error) == (READ | {"sparse.png": "unsupported"}, "")


def test_a_sparse_header_that_is_cut_or_without_end_ends_the_shard(tmp_path: Path) -> None:
    cut = FIRST + old_sparse(3, is_last=False)
    assert_breaks_after("first.png", read(tmp_path, "x.tar", cut), "")
    endless = gzip.compress(FIRST + old_sparse(100, is_last=True))
    why = ": a member has more than 32 headers"
    assert_breaks_after("first.png", read(tmp_path, "x.tar.gz", endless), why)


@pytest.mark.parametrize(
    ("name", "compress"), [("bzip2", bz2.compress), ("xz", lzma.compress)], ids=["bzip2", "xz"]
)
@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_a_compression_that_is_not_promised_is_refused_by_name(
    tmp_path: Path, name: str, compress: object, ending: str
) -> None:
    data = compress(tar_of("a.png") + bytes(10**7))
    expected = f"a tar archive compressed by {name}; pack it as .tar or .tar.gz"
    assert read(tmp_path, f"x.{ending}", data) == ({}, "unsupported", expected)


def test_megabytes_of_zeros_are_passed_over_without_being_kept(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with gzip.open(sink, "wb", 1) as packed:
        packed.write(FIRST)
        packed.write(header(b"0", name="zeros.bin", size=2**26))
        for _ in range(64):
            packed.write(bytes(2**20))
        packed.write(LAST)
    found, error, _ = read(tmp_path, "x.tgz", sink.getvalue())
    assert (found, error) == (READ, "")


def test_more_members_than_a_small_file_can_have_end_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_contents, "_MOST_MEMBERS", 100)
    packed = gzip.compress(header(b"0", name="empty.png") * 1500 + LAST)
    _, error, detail = read(tmp_path, "x.tar.gz", packed)
    most = 100 + len(packed) // 16
    assert most < 1000
    assert error == "archive_truncated"
    assert detail.endswith(f"members: more than {most} members in {len(packed)} bytes")


def test_names_that_are_not_text_keep_their_bytes(tmp_path: Path) -> None:
    named = header(b"x", record("path", "t\udce4st/a.png")) + header(b"0", b"a")
    data = FIRST + named + header(b"0", b"b", name="t\udce4st/b.png") + LAST
    (tmp_path / "x.tar").write_bytes(data)
    found = shards.members((tmp_path / "x.tar").as_uri(), size_bytes=len(data))
    images = [each.image.partition("#")[2] for each in found]
    assert images == ["first.png", "t%E4st/a.png", "t%E4st/b.png", "last.png"]


def test_bytes_that_gzip_cannot_read_name_the_error(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(FIRST + os.urandom(5000), 0))
    packed[10 + 5 + 2030 :] = b"\xff" * 100
    found, error, detail = read(tmp_path, "x.tar.gz", bytes(packed))
    assert error == "archive_truncated"
    assert list(found) == ["first.png"]
    assert detail.startswith("the archive ends early or is broken after 1 members")


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "zstd", "lz4", "brotli"])
def test_a_damaged_page_of_a_parquet_file_ends_the_shard(tmp_path: Path, codec: str) -> None:
    images = [os.urandom(500) + bytes(500) for _ in range(160)]
    table = pa.table({"image": images})
    options = {"compression": codec, "use_dictionary": False, "data_page_size": 4000}
    data = bytearray(parquet(table, row_group_size=40, write_page_checksum=False, **options))
    start = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(2).column(0).data_page_offset
    data[start + 40 : start + 3000] = b"\xa5" * 2960
    found, error, detail = read(tmp_path, "x.parquet", bytes(data))
    assert list(found.values()) == images[:80]
    before = "the archive ends early or is broken after 80 members: "
    assert (error, detail.startswith(before)) == ("archive_truncated", True)
    assert re.fullmatch(r"[A-Z]\w+", detail.removeprefix(before))


def test_a_page_that_does_not_match_its_checksum_ends_the_shard(tmp_path: Path) -> None:
    table = pa.table({"image": [os.urandom(1000) for _ in range(10)]})
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    data = bytearray(parquet(table, **options))
    data[5000] ^= 1
    found, error, detail = read(tmp_path, "x.parquet", bytes(data))
    assert (found, error) == ({}, "archive_truncated")
    assert detail == "the archive ends early or is broken after 0 members: OSError"


@pytest.mark.parametrize("paths", [[7, 8], [["a.png"], ["b.png"]], [1.5, None], [b"a", b"b"]])
def test_paths_that_are_no_text_leave_the_numbers_of_the_rows(tmp_path: Path, paths: list) -> None:
    rows = [{"bytes": b"1", "path": paths[0]}, {"bytes": b"2", "path": paths[1]}]
    data = parquet(pa.table({"image": rows}))
    assert read(tmp_path, "x.parquet", data) == ({"000000": b"1", "000001": b"2"}, "", "")


@pytest.mark.parametrize("is_struct", [True, False])
def test_a_path_that_is_not_utf_8_keeps_its_bytes(tmp_path: Path, is_struct: bool) -> None:
    binary = pa.array([b"t\xe4st/a.png", b"b.png"], pa.binary())
    paths = pa.StringArray.from_buffers(2, *binary.buffers()[1:])
    images = pa.array([b"1", b"2"], pa.binary())
    table = pa.table({"image": images, "path": paths})
    if is_struct:
        table = pa.table({"image": pa.StructArray.from_arrays([images, paths], ["bytes", "path"])})
    found, error, _ = read(tmp_path, "x.parquet", parquet(table))
    assert (found, error) == ({"t\udce4st/a.png": b"1", "b.png": b"2"}, "")


def test_an_image_that_thousands_of_rows_repeat_is_in_memory_once(tmp_path: Path) -> None:
    table = pa.table({"image": [bytes(4 * 2**20)] * 24})
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    (tmp_path / "x.parquet").write_bytes(parquet(table))
    size_bytes = (tmp_path / "x.parquet").stat().st_size
    del table
    peak = 0
    for each in shards.members((tmp_path / "x.parquet").as_uri(), size_bytes=size_bytes):
        assert each.size_bytes == 4 * 2**20
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 24 * 2**20


def test_more_rows_than_a_small_parquet_file_can_have_end_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_contents, "_MOST_MEMBERS", 100)
    data = parquet(pa.table({"image": pa.nulls(100_000, pa.binary())}))
    found, error, detail = read(tmp_path, "x.parquet", data)
    most = 100 + len(data) // 16
    assert len(found) == most + 1
    assert error == "archive_truncated"
    assert detail.endswith(f": more than {most} members in {len(data)} bytes")


def test_a_lack_of_memory_is_no_fault_of_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(column: object) -> str:
        raise MemoryError

    monkeypatch.setattr(parquet_rows, "_image_of", fail)
    with pytest.raises(MemoryError):
        read(tmp_path, "x.parquet", parquet(pa.table({"image": [b"1"]})))


@pytest.mark.parametrize("data", [b"x", b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1"])
def test_the_shortest_files_are_no_parquet_files(tmp_path: Path, data: bytes) -> None:
    found, error, detail = read(tmp_path, "x.parquet", data)
    assert (found, error) == ({}, "unreadable")
    assert detail.startswith("not a Parquet file (")
