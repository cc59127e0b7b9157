"""The tables of an inspection are read for evaluation, whatever their parts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.labelled_data import SHAPE, write_part, write_tests
from vqad.evaluation.results import check_tables, read_inspected


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Four test images of which one was rejected, in two parts and in no order."""
    images = write_tests(tmp_path, ["crack/0.png", "crack/1.png", "good/0.png", "good/1.png"])
    write_part(tmp_path, images, 0, {2: 2.0, 0: 0.0})
    write_part(tmp_path, images, 1, {1: 1.0}, rejected=[images[3]])
    return images


def test_tables_are_read_sorted_by_image_whatever_their_parts(
    tmp_path: Path, images: list[str]
) -> None:
    found = read_inspected(str(tmp_path), "part", images)
    assert found.images == images[:3]
    assert found.scores.tolist() == [0, 1, 2]
    assert found.maps.shape == (3, *SHAPE)
    assert found.maps[:, 0, 0].tolist() == [0, 1, 2]
    assert (found.threshold, found.model_version) == (1.5, "v")
    assert (found.num_rejected, found.num_missing) == (1, 0)


def test_only_wanted_images_count_and_those_without_a_verdict_are_counted(
    tmp_path: Path, images: list[str]
) -> None:
    found = read_inspected(str(tmp_path), "part", [images[1], f"{images[1]}x"])
    assert found.images == [images[1]]
    assert (found.num_rejected, found.num_missing) == (0, 1)


def test_stray_and_damaged_files_are_passed_over_and_their_images_counted(
    tmp_path: Path, images: list[str]
) -> None:
    for table in ("verdicts", "maps"):
        folder = tmp_path / table / "part"
        whole = (folder / "part-0.parquet").read_bytes()
        (folder / "notes.txt").write_text("ours")
        (folder / "copy.parquet").write_bytes(whole)
        (folder / "part-2.parquet").write_bytes(b"")
        pq.write_table(pa.table({"image": ["a"]}), folder / "part-3.parquet")
    assert read_inspected(str(tmp_path), "part", images).scores.tolist() == [0, 1, 2]
    damaged = tmp_path / "verdicts" / "part" / "part-0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    found = read_inspected(str(tmp_path), "part", images)
    assert (found.images, found.num_missing) == ([images[1]], 2)


def test_what_is_not_in_the_tables_is_named(tmp_path: Path, images: list[str]) -> None:
    (tmp_path / "maps" / "part" / "part-1.parquet").unlink()
    with pytest.raises(ValueError, match=rf"no anomaly map of {images[1]} in .*--maps all"):
        read_inspected(str(tmp_path), "part", images)
    message = r"has no verdicts of the 1 test images of part, such as a.png; inspect them first"
    with pytest.raises(ValueError, match=message):
        read_inspected(str(tmp_path), "part", ["a.png"])
    with pytest.raises(ValueError, match=r"no tables in .*/other; inspect the category first"):
        read_inspected(str(tmp_path), "other", images)
    with pytest.raises(ValueError, match=r"no tables in .*/other; inspect the category first"):
        check_tables(str(tmp_path), "other")
    check_tables(str(tmp_path), "part")


def test_verdicts_of_two_detectors_are_not_mixed(tmp_path: Path, images: list[str]) -> None:
    path = tmp_path / "verdicts" / "part" / "part-0.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("model_version")
    other = table.set_column(at, table.field(at), pa.array(["w"] * len(table)))
    pq.write_table(other, path)
    with pytest.raises(ValueError, match=r"several part detectors \(v, w\)"):
        read_inspected(str(tmp_path), "part", images)
