"""Whole exports of an output that is made by hand, without Ray."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from tests.support import drawn_night
from tests.support.commands import Ended
from tests.support.drawn_night import HOSTILE, SIZE_PX, Image
from vqad import tables
from vqad.export import names
from vqad.export.export import export
from vqad.export.job import ExportJob, Format
from vqad.inspection import sink
from vqad.storage import output_layout

Vqad = Callable[..., Ended]


def quiet(line: str) -> None: ...


def night(home: Path) -> str:
    """An output of 12 bolts (6 defects) and 3 nuts (a defect with a hostile name, a reject)."""
    output = str(home / "output")
    drawn_night.write_night(home / "archive", output)
    return output


def exported(output: str, to: Format, say: Callable[[str], None] = quiet) -> dict[str, Any]:
    return export(ExportJob(format=to, output=output), say)


def coco_of(output: str) -> dict[str, Any]:
    return json.loads(Path(output, "export", "coco", "coco.json").read_text())


def masks_of(output: str) -> list[dict[str, str]]:
    with Path(output, "export", "mask-png", "masks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_mask_pngs_equal_the_regions(tmp_path: Path) -> None:
    output = night(tmp_path)
    summary = exported(output, "mask-png")
    counts = {"images": 14, "masks": 14, "without_map": 0, "rejects": 1}
    assert summary | counts == summary
    rows = masks_of(output)
    assert len(rows) == len({row["mask"] for row in rows}) == 14
    for row in rows:
        mask = cv2.imread(str(Path(summary["to"], row["mask"])), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (SIZE_PX[1], SIZE_PX[0])
        assert set(np.unique(mask)) <= {0, 255}
        expected = np.zeros_like(mask)
        if row["verdict"] == "defect":
            expected[10:20, 30:45] = 255
        assert (mask == expected).all()


def test_coco_has_every_image_and_every_region(tmp_path: Path) -> None:
    output = night(tmp_path)
    summary = exported(output, "coco")
    assert (summary["images"], summary["annotations"]) == (14, 7)
    found = coco_of(output)
    assert found["categories"] == [
        {"id": 1, "name": "bolt/defect", "supercategory": "bolt"},
        {"id": 2, "name": "nut/defect", "supercategory": "nut"},
    ]
    images = {each["id"]: each for each in found["images"]}
    assert sorted(images) == list(range(1, 15))
    assert {each["file_name"] for each in images.values()} >= {f"nut/{HOSTILE}", "bolt/000.png"}
    for each in found["annotations"]:
        image = images[each["image_id"]]
        assert image["verdict"] == "defect"
        assert each["bbox"] == [30, 10, 15, 10]
        assert each["area"] == 150
        (points,) = each["segmentation"]
        corners = sorted(zip(points[::2], points[1::2], strict=True))
        assert corners == [(30, 10), (30, 20), (45, 10), (45, 20)]
        assert each["score"] == image["score"]


def test_coco_has_lengths_and_millimetres_where_the_verdicts_have_them(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    (row,) = drawn_night.write_night(
        tmp_path / "archive", output, [Image(name="a/1.png", score=30)]
    )
    exported(output, "coco")
    (found,) = coco_of(output)["annotations"]
    assert "length_px" not in found
    sizes = {"x_mm": 3, "y_mm": 1, "width_mm": 1.5, "height_mm": 1, "area_mm2": 1.5}
    measured = {"region_lengths_px": [18.0], "regions_mm": [sizes | {"length_mm": 1.75}]}
    table = pa.Table.from_pylist([row | measured], schema=tables.VERDICTS)
    part = next(Path(output, "verdicts", "a").iterdir())
    sink.rewrite_verdicts(output, f"a/{part.name}", table)
    exported(output, "coco")
    (found,) = coco_of(output)["annotations"]
    assert found | sizes | {"length_px": 18, "length_mm": 1.75} == found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_pycocotools_reads_it_and_finds_the_masks_that_are_pngs(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="needs the extra test")
    output = night(tmp_path)
    exported(output, "coco")
    exported(output, "mask-png")
    found = coco.COCO(str(Path(output, "export", "coco", "coco.json")))
    masks = {row["image"]: row["mask"] for row in masks_of(output)}
    assert len(found.getImgIds()) == 14
    for image in found.loadImgs(found.getImgIds()):
        drawn = np.zeros((image["height"], image["width"]), np.uint8)
        for each in found.loadAnns(found.getAnnIds(imgIds=image["id"])):
            drawn |= found.annToMask(each)
        path = Path(output, "export", "mask-png", masks[image["image"]])
        assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 255 * drawn).all()


def test_regions_without_a_map_are_boxes_and_are_said(tmp_path: Path) -> None:
    output = night(tmp_path)
    for path in Path(output, "maps").rglob("*.parquet"):
        path.unlink()
    said: list[str] = []
    assert exported(output, "coco", said.append)["without_map"] == 7
    assert said[0].startswith(
        "7 of 14 images have boxes and no outlines: the output has no anomaly"
    )
    for each in coco_of(output)["annotations"]:
        assert each["bbox"] == [30, 10, 15, 10]
        assert "segmentation" not in each
    summary = exported(output, "mask-png", said.append)
    assert (summary["masks"], summary["without_map"]) == (7, 7)
    assert {row["verdict"] for row in masks_of(output)} == {"normal"}
    assert any(line.startswith("7 of 14 images have no mask: ") for line in said)
    assert "1 rejected images are left out: they have no size" in said


def test_an_export_twice_is_the_same_in_bytes(tmp_path: Path) -> None:
    output = night(tmp_path)
    contents = []
    for _ in range(2):
        exported(output, "coco")
        exported(output, "mask-png")
        files = sorted(each for each in Path(output, "export").rglob("*") if each.is_file())
        contents.append([(each, each.read_bytes()) for each in files])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 14 + 2


def test_of_two_rows_of_an_image_the_later_one_is_exported(tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    (row,) = drawn_night.write_night(tmp_path / "archive", output, [Image(name="a/1.png", score=9)])
    later = row | {"category": "nut", "inspected_at": drawn_night.AT.replace(year=2027)}
    table = pa.Table.from_pylist([later], schema=tables.VERDICTS)
    sink.write_part(output, table, tables.MAPS.empty_table())
    assert exported(output, "coco")["superseded"] == 1
    assert [each["category"] for each in coco_of(output)["images"]] == ["nut"]


def test_the_command_writes_where_it_is_told_and_says_what(tmp_path: Path, vqad: Vqad) -> None:
    output = night(tmp_path)
    line = ("export", "--format", "coco", "--output", output)
    ended = vqad(*line, "--to", tmp_path / "labels")
    assert (ended.code, ended.summary["to"]) == (0, f"file://{tmp_path}/labels")
    assert (tmp_path / "labels" / "coco.json").exists()
    assert not Path(output, "export").exists()
    part = output_layout.part(output, "verdicts", "nut/part-0.parquet")
    Path(part).write_bytes(b"PAR1 no table")
    ended = vqad(*line)
    assert (ended.code, ended.summary["damaged"]) == (1, 1)
    assert "1 parts of the verdicts can't be read, such as nut/part-0.parquet" in ended.err


def test_an_output_without_verdicts_is_exit_code_2(tmp_path: Path, vqad: Vqad) -> None:
    ended = vqad("export", "--format", "coco", "--output", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "has no verdicts; inspect an archive into it first" in ended.err
    ended = vqad("export", "--format", "voc", "--output", tmp_path)
    assert ended.code == 2
    assert "--format" in ended.err


def test_a_folder_that_cannot_be_written_to_is_exit_code_2(tmp_path: Path, vqad: Vqad) -> None:
    output = night(tmp_path)
    (tmp_path / "file").write_text("")
    line = ("export", "--format", "coco", "--output", output)
    ended = vqad(*line, "--to", tmp_path / "file" / "labels")
    assert ended.code == 2
    assert "--to" in ended.err


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("file:///a/bottle/1.png", "bottle/1.png"),
        ("file:///a/b%C3%A4r/a%20b.png", "bär/a b.png"),
        ("file:///a/night.tar#bottle/1.png;2", "night.tar/bottle/1.png"),
        (
            "file:///a/night.parquet#../../../etc/1.png",
            "night.parquet/%2E%2E/%2E%2E/%2E%2E/etc/1.png",
        ),
        ("file:///a/night.parquet#/etc//./1.png", "night.parquet/etc/1.png"),
        ("file:///b/1.png", "/b/1.png"),
        ("s3://bucket/x/%2E%2E/1.png", "bucket/x/%2E%2E/1.png"),
        ("file:///a/%FF.png", "?.png"),
    ],
)
def test_the_name_of_an_image_never_leads_out_of_its_archive(image: str, name: str) -> None:
    assert names.file_name(image, "file:///a") == name


def test_names_of_masks_are_plain_and_differ() -> None:
    images = [
        *("file:///a/1.png", "file:///a/1.jpg", "file:///b/1.png", "s3://a/1.png"),
        *(
            "file:///a/n.tar#1.png",
            "file:///a/n.tar#1.png;2",
            "file:///a/%2E%2E",
            "file:///a/%20%25.png",
        ),
        f"file:///a/{'x' * 300}.png",
    ]
    found = [names.mask_name(each) for each in images]
    assert len(set(found)) == len(images)
    assert all(each.isascii() and len(each) < 120 and not set(each) & set("/%# ") for each in found)
    categories = ["bottle", "Bottle 1", "b/c", "..", "", "ä", f"a-{'0' * 24}", "x" * 200]
    folders = [names.folder_name(each) for each in categories]
    assert folders[0] == "bottle"
    assert len(set(folders)) == len(categories)
    assert all(
        each.isascii() and not set(each) & set("/% ") and each[0].isalnum() for each in folders
    )
