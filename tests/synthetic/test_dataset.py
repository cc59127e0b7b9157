import collections
import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import drawn
from vqad import synthetic

MVTEC = {
    "texture": ["carpet", "grid", "leather", "tile", "wood"],
    "rotatable_object": ["bottle", "hazelnut", "metal_nut", "screw"],
    "object": ["cable", "capsule", "pill", "toothbrush", "transistor", "zipper"],
}
FLAWED = [(category, defect) for category in drawn.KINDS for defect in drawn.defects(category)]


def generator(*place: int) -> np.random.Generator:
    return np.random.default_rng(list(place))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def small_archive(folder: Path, **changed) -> dict[str, int]:
    asked = {"size_px": 32, "num_train": 2, "num_good": 1, "num_defect": 5} | changed
    return drawn.draw_archive(folder, **asked)


def test_mvtecs_categories_have_mvtecs_kinds():
    for kind, names in MVTEC.items():
        assert {drawn.KINDS[name] for name in names} == {kind}
    assert drawn.KINDS["fabric"] == "texture"
    assert drawn.KINDS["washer"] == "rotatable_object"
    assert drawn.KINDS["ampoule"] == "object"
    assert len(drawn.KINDS) == 18


def test_the_library_draws_three_products_of_its_own_and_no_other():
    assert {name: drawn.KINDS[name] for name in ("fabric", "washer", "ampoule")} == synthetic.KINDS
    picture = synthetic.draw("fabric", size_px=48, rng=generator(1))
    np.testing.assert_array_equal(picture, drawn.draw("fabric", size_px=48, rng=generator(1)))
    with pytest.raises(ValueError, match="unknown category 'pill': use fabric, washer, ampoule"):
        synthetic.draw("pill", rng=generator(0))


@pytest.mark.parametrize("category", drawn.KINDS)
def test_a_category_has_three_defects_or_more_and_each_has_one_name(category):
    names = drawn.defects(category)
    assert len(set(names)) == len(names) >= 3


@pytest.mark.parametrize("category", drawn.KINDS)
def test_the_same_generator_draws_the_same_picture_and_another_draws_another(category):
    picture = drawn.draw(category, size_px=48, rng=generator(1))
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, drawn.draw(category, size_px=48, rng=generator(1)))
    other = drawn.draw(category, size_px=48, rng=generator(2))
    assert np.abs(picture.astype(int) - other).mean() > 2


@pytest.mark.parametrize(("category", "defect"), FLAWED)
def test_a_flaw_is_plain_inside_its_mask_and_nothing_differs_outside(category, defect):
    for number in range(3):
        good = drawn.draw(category, size_px=64, rng=generator(number))
        flawed, mask = drawn.draw_defect(category, defect, size_px=64, rng=generator(number))
        assert flawed.shape == good.shape
        assert mask.shape == good.shape[:2]
        assert set(np.unique(mask)) == {0, 255}
        assert 0.01 <= np.mean(mask > 0) <= 0.4
        difference = np.abs(flawed.astype(int) - good).max(axis=2)
        assert difference[mask == 0].max() == 0
        assert difference[mask > 0].mean() > 8


def appearance(picture: np.ndarray) -> np.ndarray:
    """Means, spreads and roughness of the colours: what no turn or flip changes."""
    values = picture.astype(np.float64)
    rough = np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()
    return np.concatenate([values.mean((0, 1)), values.std((0, 1)), [rough]])


def test_a_picture_resembles_its_own_category_most():
    def seen(category: str, place: int) -> np.ndarray:
        return appearance(drawn.draw(category, size_px=64, rng=generator(place)))

    typical = {name: np.mean([seen(name, n) for n in range(4)], axis=0) for name in drawn.KINDS}
    for category, number in itertools.product(drawn.KINDS, range(4, 7)):
        look = seen(category, number)
        nearest = min(typical, key=lambda name: float(np.linalg.norm(typical[name] - look)))
        assert nearest == category


def test_textures_are_seen_turned_and_upright_objects_are_not():
    def lies_across(category: str, number: int) -> bool:
        picture = drawn.draw(category, size_px=64, rng=generator(number)).astype(int)
        return np.abs(np.diff(picture, axis=0)).sum() > np.abs(np.diff(picture, axis=1)).sum()

    assert {lies_across("wood", number) for number in range(10)} == {True, False}
    assert len({lies_across("transistor", number) for number in range(10)}) == 1


def test_an_archive_has_mvtecs_layout(tmp_path):
    assert small_archive(tmp_path) == {"fabric": 8, "washer": 8, "ampoule": 8}
    for category in ("fabric", "washer", "ampoule"):
        names = itertools.islice(itertools.cycle(drawn.defects(category)), 5)
        counts = collections.Counter(names)
        expected = {"train/good/000.png", "train/good/001.png", "test/good/000.png"}
        for name, count in counts.items():
            expected |= {f"test/{name}/{number:03d}.png" for number in range(count)}
            expected |= {f"ground_truth/{name}/{number:03d}_mask.png" for number in range(count)}
        assert set(digests(tmp_path / category)) == expected


def test_the_files_hold_what_is_drawn(tmp_path):
    small_archive(tmp_path, categories=["pill"], size_px=40)
    for path in tmp_path.rglob("*.png"):
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if "ground_truth" in path.parts:
            assert stored.shape == (40, 40)
            assert set(np.unique(stored)) == {0, 255}
        else:
            assert stored.shape == (40, 40, 3)
    # The hazelnut is brown: its red would be its blue if the channels were swapped.
    small_archive(tmp_path, categories=["hazelnut"], num_train=1)
    blue, _, red = cv2.imread(str(tmp_path / "hazelnut/train/good/000.png")).mean((0, 1))
    assert red > blue + 20


def test_an_archive_is_the_same_in_another_process_and_needs_no_torch(tmp_path):
    small_archive(tmp_path / "here", categories=["washer"])
    code = (
        "import sys; from pathlib import Path; from vqad.synthetic import draw_archive\n"
        "draw_archive(Path(sys.argv[1]), categories=['washer'], size_px=32,"
        " num_train=2, num_good=1, num_defect=5)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, timeout=60)
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


def test_another_seed_draws_another_archive_and_no_two_pictures_are_alike(tmp_path):
    small_archive(tmp_path / "one", categories=["fabric"], seed=1)
    small_archive(tmp_path / "two", categories=["fabric"], seed=2)
    found = [
        digest
        for name in ("one", "two")
        for path, digest in digests(tmp_path / name).items()
        if "ground_truth" not in path
    ]
    assert len(found) == 16
    assert len(set(found)) == 16


def test_a_larger_archive_holds_the_smaller_one(tmp_path):
    small_archive(tmp_path / "small", categories=["capsule"])
    small_archive(tmp_path / "large", categories=["capsule"], num_train=4, num_defect=9)
    assert digests(tmp_path / "small").items() < digests(tmp_path / "large").items()


def test_an_unknown_category_is_refused_with_the_known_ones_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"unknown category 'sofa': use fabric, washer, .*zipper"):
        drawn.draw("sofa", rng=generator(0))
    with pytest.raises(ValueError, match="unknown category 'sofa'"):
        drawn.defects("sofa")
    with pytest.raises(ValueError, match="unknown category 'sofa'"):
        small_archive(tmp_path / "archive", categories=["fabric", "sofa"])
    assert not (tmp_path / "archive").exists()


def test_an_unknown_defect_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown defect 'rot' of washer: use scratch, chip, stain"
    ):
        drawn.draw_defect("washer", "rot", rng=generator(0))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"size_px": 31}, r"size_px must be in \[32, 1024\], got 31"),
        ({"size_px": 2000}, r"size_px must be in \[32, 1024\], got 2000"),
        ({"num_train": -1}, "num_train must be at least 0, got -1"),
        ({"num_defect": -2}, "num_defect must be at least 0, got -2"),
        ({"seed": -3}, "seed must be at least 0, got -3"),
    ],
)
def test_nonsense_is_refused_by_name_and_value(tmp_path, changed, text):
    with pytest.raises(ValueError, match=text):
        small_archive(tmp_path / "archive", **changed)
    assert not (tmp_path / "archive").exists()
