"""A manifest names images and their categories, and may be the archive itself."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vqad.images import listing, manifests
from vqad.storage import files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b"image;category\na;b\n"),
        ("m.csv", b""),
        ("m.csv", b"\xff\xfe\x00"),
        ("m.parquet", b"PAR1 but not really"),
        ("m.txt", b"image,category\na,b\n"),
    ],
)
def test_what_is_no_such_table_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    message = f"manifest {tmp_path}/{name} must be Parquet or CSV with columns image and category"
    with pytest.raises(ValueError, match=re.escape(message)):
        manifests.read(f"{tmp_path}/{name}")


def test_parquet_without_the_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"image": ["a"]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="must be Parquet or CSV with columns image and category"):
        manifests.read(f"{tmp_path}/m.parquet")


def test_text_that_is_not_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    binary = pa.array([b"t\xe4st.png"], pa.binary())
    images = pa.StringArray.from_buffers(1, *binary.buffers()[1:])
    pq.write_table(pa.table({"image": images, "category": ["pill"]}), tmp_path / "m.parquet")
    message = f"manifest {tmp_path}/m.parquet must be Parquet or CSV with columns image and"
    with pytest.raises(ValueError, match=re.escape(message)):
        manifests.read(f"{tmp_path}/m.parquet")


def test_an_image_that_is_no_place_is_refused_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image,category\na.png,pill\nftp://a/b.png,pill\n")
    message = f"manifest {tmp_path}/m.csv, row 2: ftp://a/b.png is neither a local path nor s3://"
    with pytest.raises(ValueError, match=re.escape(message)):
        manifests.read(f"{tmp_path}/m.csv")


def test_a_name_that_no_disk_takes_is_listed_and_rejected_later() -> None:
    assert [each.modified_at for each in manifests.look_up({"file:///a%00b.png": "pill"})] == [None]


def test_a_manifest_that_is_not_there_is_refused_with_its_place(tmp_path: Path) -> None:
    message = f"manifest {tmp_path}/none.csv: no such file"
    with pytest.raises(ValueError, match=re.escape(message)):
        manifests.read(f"{tmp_path}/none.csv")


def test_an_archive_that_only_names_images_is_a_manifest(tmp_path: Path) -> None:
    rows = {"image": ["a.png"], "category": ["pill"]}
    pq.write_table(pa.table(rows), tmp_path / "named.parquet")
    pq.write_table(pa.table({"image": [b"bytes"], "category": ["pill"]}), tmp_path / "held.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    (tmp_path / "folder.parquet").mkdir()
    found = {
        name: manifests.is_manifest(str(tmp_path / name))
        for name in ("named.parquet", "held.parquet", "broken.parquet", "folder.parquet", "a.csv")
    }
    assert [name for name, is_one in found.items() if is_one] == ["named.parquet", "a.csv"]
    assert not manifests.is_manifest(str(tmp_path))


def test_what_is_named_is_looked_up_and_listed_though_it_be_gone(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"12345")
    names = ("gone.png", "b.png", "x.tar#1.png", "x.tar#2.png")
    named = {f"{tmp_path.as_uri()}/{name}": "pill" for name in names}
    found = manifests.look_up(named)
    assert [each.image.rpartition("/")[2] for each in found] == ["b.png", "gone.png", "x.tar"]
    assert [each.size_bytes for each in found] == [5, 0, 0]
    assert [each.modified_at is None for each in found] == [False, True, True]


@pytest.mark.integration
def test_objects_are_looked_up_as_they_are_listed(bucket: str) -> None:
    files.write_bytes(f"{bucket}/a/1.png", b"12345")
    listed = listing.list_images(bucket)
    gone = f"{bucket}/a/2.png"
    assert manifests.look_up({listed[0].image: "pill", gone: "pill"})[:1] == listed
    assert manifests.look_up({gone: "pill"})[0].etag == ""
