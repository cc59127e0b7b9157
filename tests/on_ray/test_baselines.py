"""Where the fits of the baselines are kept."""

from pathlib import Path

import pytest

from vqad.on_ray import baselines
from vqad.training.good_images import good_images


@pytest.mark.parametrize("category", ["螺" * 85, "metal nut", ".hidden"])
def test_a_category_of_any_name_has_a_folder_that_a_disk_takes(
    tmp_path: Path, category: str
) -> None:
    good = tmp_path / "data" / category / "train" / "good"
    good.mkdir(parents=True)
    (good / "1.png").write_bytes(b"its name and tag count here, not its content")
    listed = good_images(f"{tmp_path}/data", category)
    folder = Path(baselines._folder(f"{tmp_path}/out", category, "v", "AE-L2", listed))
    folder.mkdir(parents=True)
    assert folder.parents[1] == tmp_path / "out" / "baselines"
