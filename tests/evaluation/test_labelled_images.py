"""Test images, labels and masks are found by folders and names, before anything is inspected."""

from pathlib import Path

import pytest

from tests.support.labelled_data import NAMES, write_masks, write_tests
from vqad.evaluation.labelled_images import GOOD, has_tests, labelled_images
from vqad.images.visa_split import SPLIT_FILE
from vqad.storage import uris


def found_masks(data: Path) -> dict[str, list[str]]:
    """Paths of the masks below the category, by path of the image below its folder of tests."""
    found = labelled_images(str(data), "part")
    assert found.masks is not None
    root = uris.absolute(str(data / "part"))
    return {
        uris.relative(image, f"{root}/test"): [uris.relative(mask, root) for mask in masks]
        for image, masks in found.masks.items()
    }


def test_folders_name_the_defects_and_masks_have_the_names_of_mvtec(tmp_path: Path) -> None:
    images = write_tests(tmp_path)
    write_masks(tmp_path, ["crack/0_mask.png", "crack/1_mask.png"])
    found = labelled_images(str(tmp_path), "part")
    assert [each.image for each in found.images] == images
    assert found.defect_types == dict(zip(images, ["crack", "crack", GOOD], strict=True))
    assert found_masks(tmp_path) == {
        f"crack/{at}.png": [f"ground_truth/crack/{at}_mask.png"] for at in range(2)
    }
    assert found.limits == []


@pytest.mark.parametrize(
    "pattern", ["{}.png", "{}.bmp", "{}_gt.png", "{}-label.png", "{}.mask.png", "{} defect.tif"]
)
def test_masks_with_the_image_name_and_any_suffix_are_found(tmp_path: Path, pattern: str) -> None:
    write_tests(tmp_path)
    write_masks(tmp_path, [f"crack/{pattern.format(at)}" for at in range(2)])
    assert found_masks(tmp_path) == {
        f"crack/{at}.png": [f"ground_truth/crack/{pattern.format(at)}"] for at in range(2)
    }


def test_a_mask_belongs_to_the_image_with_the_longest_name(tmp_path: Path) -> None:
    write_tests(tmp_path, ["crack/1.png", "crack/1_2.png", "crack/12.png"])
    write_masks(tmp_path, [f"crack/{name}_gt.png" for name in ("1", "1_2", "12")])
    assert found_masks(tmp_path) == {
        f"crack/{name}.png": [f"ground_truth/crack/{name}_gt.png"] for name in ("1", "1_2", "12")
    }


def test_a_folder_of_several_masks_belongs_to_the_image_of_its_name(tmp_path: Path) -> None:
    write_tests(tmp_path, ["crack/000.png"])
    write_masks(tmp_path, ["crack/000/000.png", "crack/000/001.png"])
    assert found_masks(tmp_path) == {
        "crack/000.png": [f"ground_truth/crack/000/{name}.png" for name in ("000", "001")]
    }


@pytest.mark.parametrize("good", ["ok", "OK", "normal", "Normal", "Good"])
def test_good_images_are_known_by_every_name_of_their_folder(tmp_path: Path, good: str) -> None:
    images = write_tests(tmp_path, [f"{good}/0.png", "ko/0.png"])
    found = labelled_images(str(tmp_path), "part")
    assert found.defect_types == {images[0]: GOOD, images[1]: "ko"}


def test_mvtec_ad_2_has_its_masks_below_the_public_tests(tmp_path: Path) -> None:
    write_tests(tmp_path, ["bad/0.png", "good/0.png"])
    write_masks(tmp_path, ["bad/0_mask.png"])
    folder = tmp_path / "part"
    (folder / "test").rename(folder / "test_public")
    (folder / "ground_truth").rename(folder / "test_public" / "ground_truth")
    found = labelled_images(str(tmp_path), "part")
    assert sorted(found.defect_types.values()) == ["bad", GOOD]
    (masks,) = (found.masks or {}).values()
    assert masks == [
        uris.absolute(str(folder / "test_public" / "ground_truth" / "bad" / "0_mask.png"))
    ]


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    """A category in VisA's layout, without the split file."""
    write_tests(tmp_path, ["Normal/0.JPG", "Normal/1.JPG", "Anomaly/0.JPG"])
    write_masks(tmp_path, ["Anomaly/0.png"])
    folder = tmp_path / "part"
    (folder / "Data").mkdir()
    (folder / "test").rename(folder / "Data" / "Images")
    (folder / "ground_truth").rename(folder / "Data" / "Masks")
    return tmp_path


def test_visa_is_evaluated_on_the_test_images_of_its_split_alone(visa: Path) -> None:
    (visa / SPLIT_FILE).parent.mkdir()
    (visa / SPLIT_FILE).write_text(
        "object,split,label,image,mask\n"
        "part,train,normal,part/Data/Images/Normal/0.JPG,\n"
        "part,test,normal,part/Data/Images/Normal/1.JPG,\n"
        "part,test,anomaly,part/Data/Images/Anomaly/0.JPG,part/Data/Masks/Anomaly/0.png\n"
    )
    assert has_tests(str(visa), "part")
    found = labelled_images(str(visa), "part")
    root = uris.absolute(str(visa / "part" / "Data"))
    defect = f"{root}/Images/Anomaly/0.JPG"
    assert found.defect_types == {defect: "Anomaly", f"{root}/Images/Normal/1.JPG": GOOD}
    assert found.masks == {defect: [f"{root}/Masks/Anomaly/0.png"]}


def test_visa_without_its_split_file_is_refused(visa: Path) -> None:
    assert has_tests(str(visa), "part")
    with pytest.raises(ValueError, match=r"split_csv/1cls.csv is missing: it says which images"):
        labelled_images(str(visa), "part")


def test_a_missing_mask_is_named_with_the_place_where_it_is_expected(tmp_path: Path) -> None:
    images = write_tests(tmp_path)
    write_masks(tmp_path, ["crack/0_mask.png"])
    message = (
        rf"no mask for {images[1]} \(1 of 2 defective images have none\); "
        r"expected .*/part/ground_truth/crack/1_mask.png$"
    )
    with pytest.raises(ValueError, match=message):
        labelled_images(str(tmp_path), "part")


def test_an_image_that_no_folder_labels_is_named(tmp_path: Path) -> None:
    write_tests(tmp_path, [*NAMES, "alone.png"])
    with pytest.raises(ValueError, match=r"/alone.png lies in no folder that names its defect"):
        labelled_images(str(tmp_path), "part")


@pytest.mark.parametrize("name", ["part", "other"])
def test_a_category_without_test_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "part" / "train" / "good").mkdir(parents=True)
    assert not has_tests(str(tmp_path), name)
    with pytest.raises(ValueError, match=rf"no test images in .*/{name}; expected test/good/\* "):
        labelled_images(str(tmp_path), name)


@pytest.mark.parametrize(
    ("names", "limits"),
    [
        (["crack/0.png"], ["no good test images, so image accuracy", "no masks, so the pixel"]),
        (["good/0.png"], ["no defective test images, so only the share of false alarms"]),
        (NAMES, ["no masks, so the pixel metrics are not defined"]),
    ],
)
def test_what_cannot_be_measured_is_said_with_its_reason(
    tmp_path: Path, names: list[str], limits: list[str]
) -> None:
    write_tests(tmp_path, names)
    found = labelled_images(str(tmp_path), "part").limits
    assert len(found) == len(limits)
    for line, expected in zip(found, limits, strict=True):
        assert line.startswith(f"there are {expected}")
