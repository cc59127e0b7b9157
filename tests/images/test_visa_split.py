"""VisA's split file says which images are for training and which for testing."""

from pathlib import Path

import pytest

from vqad.images.visa_split import SPLIT_FILE, read_split
from vqad.storage import uris

ROWS = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0000.JPG,
candle,test,normal,candle/Data/Images/Normal/0001.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
"""


def write(data: Path, text: str) -> None:
    path = data / SPLIT_FILE
    path.parent.mkdir()
    path.write_text(text)


def test_each_image_of_the_category_has_its_part(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    folder = tmp_path / "candle" / "Data" / "Images"
    assert read_split(str(tmp_path), "candle") == {
        uris.absolute(str(folder / "Normal" / "0000.JPG")): "train",
        uris.absolute(str(folder / "Normal" / "0001.JPG")): "test",
        uris.absolute(str(folder / "Anomaly" / "000.JPG")): "test",
    }


def test_without_the_file_there_is_no_split(tmp_path: Path) -> None:
    assert read_split(str(tmp_path), "candle") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"1cls.csv must be CSV with the columns object, split and image: 'object'"),
        (ROWS, r"1cls.csv lists no image of nothing; use the split file of this data"),
        (ROWS + "nothing,half,normal,a.png,\n", r"must be train or test, got 'half'"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        read_split(str(tmp_path), "nothing")
