"""What is held out hangs on names and seed alone; what is set follows from it by rule."""

import re

import numpy as np
import pytest

from vqad.detection.calibrate import DEFAULT_ETA
from vqad.detection.calibrate import threshold as threshold_of
from vqad.training.eta_search import ETA_GRID, painted, search_eta
from vqad.training.holdout import check_group, hold_out

NAMES = [f"good/{number:03}.png" for number in range(200)]
EXPOSURES = [f"part{part:02}_{exposure}.png" for part in range(40) for exposure in range(5)]
BY_PART = "(part[0-9]+)_"


def names_at(names: list[str], positions: list[int]) -> set[str]:
    return {names[position] for position in positions}


def test_the_same_tenth_is_held_out_whatever_the_order_of_the_listing() -> None:
    held_out = names_at(NAMES, hold_out(NAMES, seed=3))
    shuffled = [NAMES[at] for at in np.random.default_rng(0).permutation(200)]
    assert len(held_out) == 20
    assert names_at(NAMES, hold_out(NAMES, seed=3)) == held_out
    assert names_at(shuffled, hold_out(shuffled, seed=3)) == held_out
    assert names_at(NAMES, hold_out(NAMES, seed=4)) != held_out


@pytest.mark.parametrize(("num", "num_held_out"), [(2, 1), (5, 1), (14, 1), (16, 2), (209, 21)])
def test_a_tenth_is_held_out_and_at_least_one(num: int, num_held_out: int) -> None:
    names = [f"{number}.png" for number in range(num)]
    positions = hold_out(names, seed=0)
    assert len(positions) == num_held_out
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("seed", range(5))
def test_a_group_stays_on_one_side(seed: int) -> None:
    positions = hold_out(EXPOSURES, seed=seed, group=BY_PART)
    held_out = names_at(EXPOSURES, positions)
    parts = {name[:6] for name in held_out}
    assert len(held_out) == 20
    assert held_out == {name for name in EXPOSURES if name[:6] in parts}
    # Without the pattern, the same seed does tear parts apart.
    alone = {name[:6] for name in names_at(EXPOSURES, hold_out(EXPOSURES, seed=seed))}
    assert len(alone) > 4


def test_names_that_the_pattern_leaves_out_are_groups_of_their_own() -> None:
    names = [*EXPOSURES[:5], "a.png", "b.png", "c.png"]
    for seed in range(20):
        held_out = names_at(names, hold_out(names, seed=seed, group=BY_PART))
        assert len(held_out & set(EXPOSURES)) in (0, 5)
    # So are those that it matches without its group.
    optional = hold_out(NAMES, seed=3, group="(part)?good")
    assert optional == hold_out(NAMES, seed=3)


@pytest.mark.parametrize(
    ("names", "group", "message"),
    [
        ([], None, "0 images in 0 group(s): at least 2 are needed"),
        (["a.png"], None, "1 images in 1 group(s): at least 2 are needed"),
        (EXPOSURES[:5], BY_PART, "5 images in 1 group(s): at least 2 are needed, one to learn"),
    ],
)
def test_too_few_to_hold_any_out_are_refused(
    names: list[str], group: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        hold_out(names, seed=0, group=group)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("part[0-9]+", "heldout_group needs a group that names what stays together"),
        (
            "(part",
            "heldout_group '(part' is not a regular expression: missing )",
        ),
    ],
)
def test_a_pattern_that_names_no_group_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_group(pattern)


def test_the_threshold_is_the_largest_held_out_score() -> None:
    assert threshold_of([3.0, 21.25, 0.0]) == 21.25


def test_the_threshold_is_a_value_that_the_tables_can_hold() -> None:
    assert threshold_of([20.1]) == float(np.float32(20.1)) != 20.1


def test_a_smaller_quantile_tolerates_odd_images() -> None:
    scores = [*map(float, range(2, 12)), 200.0]
    assert threshold_of(scores) == 200
    assert threshold_of(scores, quantile=0.9) == 11
    assert threshold_of(scores, quantile=0.5) == 7


def test_the_threshold_is_never_below_one_grey_level() -> None:
    assert threshold_of([0.0, 0.0, 0.0]) == 1.0
    assert threshold_of([0.3, 0.9]) == 1.0


def test_no_scores_and_no_quantile_give_no_threshold() -> None:
    with pytest.raises(ValueError, match="no held-out images to set a threshold from"):
        threshold_of([])
    with pytest.raises(ValueError, match=r"threshold_quantile must be in \(0, 1\], got 0.0"):
        threshold_of([1.0], quantile=0.0)


@pytest.mark.parametrize("size_px", [64, 256])
def test_painted_rectangles_are_black_or_grey_and_one_percent_of_the_area(size_px: int) -> None:
    images = np.random.default_rng(1).uniform(0.6, 1, (24, size_px, size_px, 3)).astype(np.float32)
    pictures, masks = map(np.stack, painted(images, seed=0))
    assert masks.shape == (24, size_px, size_px)
    assert masks.dtype == bool
    np.testing.assert_allclose(masks.mean((1, 2)), 0.01, rtol=0.1)
    assert set(np.unique(pictures[masks])) == {0.0, 0.5}
    np.testing.assert_array_equal(pictures[~masks], images[~masks])
    for mask in masks:
        rows, cols = mask.any(1).sum(), mask.any(0).sum()
        assert rows * cols == mask.sum(), "one rectangle"
    assert images.min() >= 0.6, "the given images stay as they are"
    assert len({mask.tobytes() for mask in masks}) > 20


def test_painting_follows_from_the_seed() -> None:
    images = np.ones((4, 32, 32, 3), np.float32)
    one, same, other = (np.stack(painted(images, seed=seed)[1]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_even_a_picture_of_few_pixels_gets_its_rectangle() -> None:
    masks = np.stack(painted(np.ones((3, 4, 4, 3), np.float32), seed=0)[1])
    assert (masks.sum((1, 2)) >= 1).all()


def search(quality: dict[float, float]) -> tuple[float, float]:
    """Search with maps that find so large a share of the defective pixels at each eta."""
    masks = np.zeros((1, 10, 20), bool)
    masks[:, :, :10] = True

    def maps_at(eta: float) -> np.ndarray:
        maps = np.zeros(masks.shape, np.float32)
        maps[:, : round(10 * quality.get(eta, 0)), :10] = 30.0
        return maps

    return search_eta(maps_at, masks)


@pytest.mark.parametrize("best", ETA_GRID)
def test_the_eta_with_the_best_pixel_auroc_is_found(best: float) -> None:
    eta, auroc = search({**dict.fromkeys(ETA_GRID, 0.4), best: 0.8})
    assert eta == best
    # Ties at zero count half: found pixels rank first, the others toss up.
    assert auroc == pytest.approx(0.8 + 0.2 * 0.5)


@pytest.mark.parametrize(
    ("equals", "nearest"),
    [
        (ETA_GRID, DEFAULT_ETA),
        ((1e-4, 1e-3), 1e-3),
        ((3e-4, 1e-3), 3e-4),
        ((1e-5, 1e-2), 1e-2),
        ((1e-5, 3e-5), 3e-5),
    ],
)
def test_of_equal_etas_the_nearest_to_the_papers_is_taken(
    equals: tuple[float, ...], nearest: float
) -> None:
    assert search(dict.fromkeys(equals, 0.6))[0] == nearest
