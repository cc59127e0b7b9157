"""An export to object storage, from where the tables are."""

import json
from pathlib import Path

import pytest

from tests.support import drawn_night
from vqad.export.export import export
from vqad.export.job import ExportJob
from vqad.storage import files

pytestmark = pytest.mark.integration


def test_both_formats_lie_beside_the_tables_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    output = f"{bucket}/inspected"
    drawn_night.write_night(tmp_path / "archive", output)
    for name, largest in (("coco", "coco.json"), ("mask-png", "masks.csv")):
        summary = export(ExportJob(format=name, output=output), print)
        assert summary["to"] == f"{output}/export/{name}"
        assert largest in files.list_names(summary["to"])
    data = files.read_bytes(f"{output}/export/coco/coco.json", max_bytes=10**6)
    assert len(json.loads(data)["annotations"]) == 7
    masks = files.list_names(f"{output}/export/mask-png/bolt")
    assert len(masks) == 12
    assert (
        files.read_bytes(f"{output}/export/mask-png/bolt/{masks[0]}", max_bytes=10**6)[1:4]
        == b"PNG"
    )
