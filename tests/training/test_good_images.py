"""Good images are found in data sets as they are published, and nothing else is learnt from."""

import re
from pathlib import Path

import pytest

from vqad.images import visa_split
from vqad.storage import uris
from vqad.training.good_images import Found, LayoutError, folders, good_images, survey


def fill(data: Path, *paths: str) -> str:
    for path in paths:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(path.encode())
    return str(data)


def everything(data: str) -> Found:
    return survey(data, folders(data))


def found_in(data: str, category: str, pattern: str | None = None) -> list[str]:
    root = uris.absolute(uris.join(data, category))
    return [uris.relative(each.image, root) for each in good_images(data, category, pattern)]


MVTEC = (
    "bottle/train/good/000.png",
    "bottle/train/good/001.png",
    "bottle/test/good/000.png",
    "bottle/test/broken_large/000.png",
    "bottle/ground_truth/broken_large/000_mask.png",
)
VISA = (
    "candle/Data/Images/Normal/0000.JPG",
    "candle/Data/Images/Anomaly/000.JPG",
    "candle/Data/Masks/Anomaly/000.png",
    "candle/image_anno.csv",
)
KOLEKTOR = ("kos01/Part0.jpg", "kos01/Part0_label.bmp", "kos01/Part1.jpg", "kos01/Part1_label.bmp")
TILES = (
    "tile/MT_Free/Imgs/exp1_num_1.jpg",
    "tile/MT_Free/Imgs/exp1_num_1.png",
    "tile/MT_Blowhole/Imgs/exp1_num_2.jpg",
    "tile/MT_Blowhole/Imgs/exp1_num_2.png",
)


@pytest.mark.parametrize(
    ("category", "paths", "expected"),
    [
        ("bottle", MVTEC, ["train/good/000.png", "train/good/001.png"]),
        (
            "can",
            (
                "can/train/good/000_regular.png",
                "can/validation/good/000_regular.png",
                "can/test_public/bad/000_regular.png",
                "can/test_public/ground_truth/bad/000_regular_mask.png",
                "can/test_private/000_regular.png",
            ),
            ["train/good/000_regular.png"],
        ),
        (
            "breakfast_box",
            (
                "breakfast_box/train/good/000.png",
                "breakfast_box/validation/good/000.png",
                "breakfast_box/test/logical_anomalies/000.png",
                "breakfast_box/ground_truth/logical_anomalies/000/000.png",
            ),
            ["train/good/000.png"],
        ),
        ("candle", VISA, ["Data/Images/Normal/0000.JPG"]),
        (
            "01",
            ("01/train/ok/0000.bmp", "01/test/ko/0000.bmp", "01/ground_truth/ko/0000.png"),
            ["train/ok/0000.bmp"],
        ),
        (
            "bracket_black",
            (
                "bracket_black/train/good/000.png",
                "bracket_black/test/hole/000.png",
                "bracket_black/ground_truth/hole/000_mask.png",
            ),
            ["train/good/000.png"],
        ),
        ("washer", ("washer/Train/good/0.png", "washer/Test/bad/0.png"), ["Train/good/0.png"]),
        (
            "gear",
            ("gear/normal/0.png", "gear/abnormal/0.png", "gear/masks/0.png"),
            ["normal/0.png"],
        ),
        ("gear", ("gear/OK/camera1/0.png", "gear/NG/0.png"), ["OK/camera1/0.png"]),
        ("nut", ("nut/0.png", "nut/1.png", "nut/notes.txt"), ["0.png", "1.png"]),
    ],
    ids=["MVTec", "AD 2", "LOCO", "VisA", "BTAD", "MPDD", "capital", "normal", "OK", "flat"],
)
def test_places_that_say_that_they_are_good_are_taken_alone(
    tmp_path: Path, category: str, paths: tuple[str, ...], expected: list[str]
) -> None:
    data = fill(tmp_path, *paths)
    assert found_in(data, category) == expected
    assert everything(data).usable == [category]


@pytest.mark.parametrize(
    ("category", "paths", "seen"),
    [
        (
            "Class1",
            ("Class1/Train/0576.PNG", "Class1/Train/Label/0576_label.PNG", "Class1/Test/1.PNG"),
            "1 images in Test, 1 images in Train, 1 images in Train/Label; move the good images to "
            "Class1/train/good, or give --good-pattern",
        ),
        ("kos01", KOLEKTOR, "found Part0_label.bmp, whose name suggests a mask of Part0.jpg"),
        ("tile", TILES, "2 images in MT_Blowhole/Imgs, 2 images in MT_Free/Imgs; move the good"),
        (
            "MT_Free",
            ("MT_Free/a.jpg", "MT_Free/a.png"),
            "found a.jpg and a.png side by side, of which one may be the mask of the other",
        ),
        (
            "casting",
            ("casting/train/ok_front/0.jpeg", "casting/train/def_front/0.jpeg"),
            r"such as '^train/ok_front/'",
        ),
        (
            "pill",
            ("pill/test/good/0.png", "pill/test/crack/0.png"),
            "1 images in test/crack, 1 images in test/good",
        ),
        ("cup", ("cup/0.png", "cup/ground_truth/0.png"), "1 images in the folder itself, ground_"),
        (
            "lid",
            ("lid/good/0.png", "lid/good/defect/0.png"),
            "found a folder defect, whose name suggests images that are not good",
        ),
        ("ground_truth", ("ground_truth/crack/0.png",), "ground_truth is the name of a part of a"),
    ],
    ids=[
        *("DAGM", "Kolektor", "tiles", "side by side", "casting"),
        *("test alone", "masks", "defects within", "part of a category"),
    ],
)
def test_any_other_folder_is_refused_with_what_was_seen_and_what_would_do(
    tmp_path: Path, category: str, paths: tuple[str, ...], seen: str
) -> None:
    data = fill(tmp_path, *paths, "other/good/0.png")
    with pytest.raises(LayoutError, match=re.escape(seen)) as raised:
        good_images(data, category)
    assert f"{tmp_path}/{category}: " in str(raised.value)
    found = everything(data)
    assert (found.usable, list(found.refused)) == (["other"], [category])


@pytest.mark.parametrize(
    ("category", "paths", "pattern", "expected"),
    [
        ("tile", TILES, r"^MT_Free/.*\.jpg$", ["MT_Free/Imgs/exp1_num_1.jpg"]),
        (
            "casting",
            ("casting/train/ok_front/0.jpeg", "casting/train/def_front/0.jpeg"),
            "^train/ok_front/",
            ["train/ok_front/0.jpeg"],
        ),
        (
            "pill",
            ("pill/test/good/0.png", "pill/test/bad/0.png"),
            "^test/good/",
            ["test/good/0.png"],
        ),
    ],
    ids=["tiles", "casting", "test"],
)
def test_a_pattern_chooses_the_good_images(
    tmp_path: Path, category: str, paths: tuple[str, ...], pattern: str, expected: list[str]
) -> None:
    assert found_in(fill(tmp_path, *paths), category, pattern) == expected


def test_a_pattern_is_not_followed_into_defects_and_masks_that_it_does_not_name(
    tmp_path: Path,
) -> None:
    data = fill(tmp_path, *TILES, "cup/defect/0.png", "cup/fine/0.png")
    with pytest.raises(LayoutError, match="found a folder defect, whose name suggests"):
        good_images(data, "cup", r"\.png$")
    with pytest.raises(LayoutError, match=r"exp1_num_1\.png side by side"):
        good_images(data, "tile", "^MT_Free/")
    with pytest.raises(LayoutError, match="'gut/' matches none of its 2 images; the first has the"):
        good_images(data, "cup", "gut/")


@pytest.mark.parametrize(
    ("data", "paths", "seen"),
    [
        ("bottle", MVTEC, "bottle contains ground_truth, test, train: it looks like a single"),
        ("candle", VISA, "candle contains Data: it looks like a single"),
        ("nut", ("nut/0.png", "nut/1.png"), "nut contains images: it looks like a single category"),
    ],
)
def test_a_folder_one_level_too_deep_is_refused_with_the_one_above(
    tmp_path: Path, data: str, paths: tuple[str, ...], seen: str
) -> None:
    fill(tmp_path, *paths)
    hint = f"give the folder above it: --data {tmp_path} --categories {data}"
    with pytest.raises(LayoutError, match=re.escape(seen)) as raised:
        everything(str(tmp_path / data))
    assert str(raised.value).endswith(hint)


def test_folders_without_images_are_no_categories(tmp_path: Path) -> None:
    fill(tmp_path, "cup/0.png", "notes/read.txt")
    (tmp_path / "plate" / "train" / "good").mkdir(parents=True)
    found = everything(str(tmp_path))
    assert (found.with_images, found.empty) == (["cup"], ["notes", "plate"])
    (tmp_path / "cup" / "0.png").unlink()
    with pytest.raises(LayoutError, match=r"no images to learn from in .*; expected DATA/CATEGORY"):
        everything(str(tmp_path))


def test_categories_that_were_all_refused_are_said_before_anything_starts(tmp_path: Path) -> None:
    data = fill(tmp_path, *KOLEKTOR, "cup/0.png")
    with pytest.raises(LayoutError, match="Part0_label"):
        survey(data, ["kos01"])
    assert survey(data, ["kos01", "cup"]).with_images == ["cup", "kos01"]


def test_the_test_images_of_visas_split_file_are_never_learned(tmp_path: Path) -> None:
    names = [f"candle/Data/Images/Normal/{at}.JPG" for at in range(3)]
    fill(tmp_path, *names)
    assert len(good_images(str(tmp_path), "candle")) == 3
    split = tmp_path / visa_split.SPLIT_FILE
    split.parent.mkdir()
    split.write_text(
        "object,split,label,image,mask\n"
        "candle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
        "candle,test,normal,candle/Data/Images/Normal/1.JPG,\n"
    )
    found = good_images(str(tmp_path), "candle")
    assert [each.image.rpartition("/")[2] for each in found] == ["0.JPG", "2.JPG"]
    split.write_text("nothing of the kind\n")
    with pytest.raises(LayoutError, match=r"1cls.csv lists no image of candle|must be CSV with"):
        good_images(str(tmp_path), "candle")
