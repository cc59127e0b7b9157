"""Several pictures of one part are one row, made again from the verdicts."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support import drawn_night
from tests.support.drawn_night import Image
from vqad import tables
from vqad.inspection import product_parts
from vqad.inspection.job import InspectJob
from vqad.storage.lease import LeaseLostError

PATTERN = r"(p\d+)_\d"
NIGHT = [
    *(Image(name="bolt/p1_1.png", score=5.0), Image(name="bolt/p1_2.png", score=9.0)),
    *(Image(name="bolt/p2_1.png", score=25.0), Image(name="bolt/p2_2.png", score=None)),
    *(Image(name="bolt/p3_1.png", score=2.0), Image(name="bolt/p3_2.png", score=None)),
    *(Image(name="nut/p1_1.png", score=30.0), Image(name="nut/other.png", score=50.0)),
]


def made(home: Path, found: list[Image] = NIGHT, check: Any = lambda: None) -> Any:
    output, archive = str(home / "output"), home / "archive"
    drawn_night.write_night(archive, output, found)
    return product_parts.make(output, PATTERN, str(archive), check)


def rows(home: Path, category: str) -> dict[str, dict[str, Any]]:
    table = pq.read_table(home / "output" / "parts" / category / "parts.parquet")
    assert table.schema.equals(tables.PARTS, check_metadata=True)
    return {row["part"]: row for row in table.to_pylist()}


def test_the_worst_image_of_a_part_decides(tmp_path: Path) -> None:
    counts = made(tmp_path)
    assert counts.record() == {"normal": 1, "defect": 2, "reject": 1, "unmatched_images": 1}
    assert counts.example.endswith("nut/other.png")
    found = rows(tmp_path, "bolt")
    shown = [
        (
            part,
            row["verdict"],
            row["image"][-8:],
            row["score"],
            row["num_images"],
            row["num_rejects"],
        )
        for part, row in found.items()
    ]
    assert shown == [
        ("p1", "normal", "p1_2.png", 9.0, 2, 0),
        ("p2", "defect", "p2_1.png", 25.0, 2, 1),
        ("p3", "reject", "p3_2.png", None, 2, 1),
    ]
    assert {row["run"] for row in found.values()} == {drawn_night.RUN}
    assert rows(tmp_path, "nut")["p1"]["verdict"] == "defect"


def test_it_is_made_again_from_what_the_verdicts_are_then(tmp_path: Path) -> None:
    made(tmp_path)
    before = (tmp_path / "output" / "parts" / "bolt" / "parts.parquet").read_bytes()
    product_parts.make(str(tmp_path / "output"), PATTERN, str(tmp_path / "archive"), lambda: None)
    assert (tmp_path / "output" / "parts" / "bolt" / "parts.parquet").read_bytes() == before
    for path in (tmp_path / "output" / "verdicts" / "nut").iterdir():
        path.unlink()
    product_parts.make(str(tmp_path / "output"), PATTERN, str(tmp_path / "archive"), lambda: None)
    assert not (tmp_path / "output" / "parts" / "nut" / "parts.parquet").exists()
    assert list(rows(tmp_path, "bolt")) == ["p1", "p2", "p3"]


def test_a_run_without_its_lease_writes_no_part(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLostError("the lease is lost")

    with pytest.raises(LeaseLostError):
        made(tmp_path, check=lost)
    assert not (tmp_path / "output" / "parts").exists()


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ("file:///a/bolt/p1_2.png", "p1"),
        ("file:///a/p7_1/bolt.tar#x/p8_2.png;2", "p7"),
        ("file:///a/n.tar#x%20y/p8_2.png;2", "p8"),
        ("file:///elsewhere/p9_1.png", "p9"),
        ("file:///a/bolt/1.png", ""),
    ],
)
def test_the_first_group_on_the_path_names_the_part(image: str, part: str) -> None:
    assert product_parts.part_of(image, re.compile(PATTERN), "file:///a") == part


def test_a_name_that_is_not_unicode_is_no_part() -> None:
    assert product_parts.part_of("file:///a/%FF_1.png", re.compile("(.+)_"), "file:///a") == ""


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("p[0-9]", "part_pattern needs a group that names the part"),
        ("(", "not a regular expression"),
    ],
)
def test_a_pattern_that_names_no_part_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InspectJob(archive="a", models="m", output="o", part_pattern=pattern)
