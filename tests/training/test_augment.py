"""Augmentation keeps what is normal normal, and can be repeated."""

import pytest
import torch

from vqad.model.kinds import given_kind, nth_symmetry
from vqad.training.augment import Jitter, augment


def pictures(batch: int = 6, size: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["texture", "rotatable_object", "object"])
def test_images_stay_images_and_a_generator_repeats_them(kind: str) -> None:
    images = pictures()
    one = augment(images, kind, torch.Generator().manual_seed(1))
    again = augment(images, kind, torch.Generator().manual_seed(1))
    other = augment(images, kind, torch.Generator().manual_seed(2))
    assert one.shape == images.shape
    assert one.min() >= 0
    assert one.max() <= 1
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_rotatable_object_is_one_of_the_eight_symmetries_of_the_square() -> None:
    images = pictures(64)
    seen = set()
    for image, turned in zip(
        images, augment(images, "rotatable_object", torch.Generator().manual_seed(0)), strict=True
    ):
        same = [n for n in range(8) if torch.equal(turned, nth_symmetry(image, n))]
        assert len(same) == 1
        seen.add(same[0])
    assert seen == set(range(8))


def test_an_object_turns_by_ten_degrees_at_most_and_shows_no_black_corner() -> None:
    white = torch.ones(32, 3, 64, 64)
    assert augment(white, "object", torch.Generator().manual_seed(0)).min() > 0.99
    # A bright bar through the middle: after any turn its ends move by tan(10 degrees) at most.
    bar = torch.zeros(64, 3, 65, 65)
    bar[:, :, :, 32] = 1
    turned = augment(bar, "object", torch.Generator().manual_seed(0))
    top = turned[:, 0, 2].argmax(1) - 32
    assert top.abs().max() <= 6
    assert top.min() < -2
    assert top.max() > 2


def test_a_texture_crop_keeps_at_least_seven_eighths_of_each_side() -> None:
    ramp = torch.linspace(0, 1, 64).expand(40, 3, 64, 64).contiguous()
    spans = []
    for crop in augment(ramp, "texture", torch.Generator().manual_seed(0)):
        spans.append((crop.amax() - crop.amin()).item())
    assert min(spans) > 0.83
    assert max(spans) - min(spans) > 0.03


def test_a_kind_is_known_only_where_it_is_given() -> None:
    assert given_kind("bottle", {"bottle": "texture"}) == "texture"
    assert given_kind("bottle", {"tile": "texture"}) is None


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    expected = "kind of nut must be one of texture, rotatable_object, object, got round"
    with pytest.raises(ValueError, match=expected):
        given_kind("nut", {"nut": "round"})


@pytest.mark.parametrize("kind", ["texture", "rotatable_object", "object"])
def test_jitter_changes_the_light_within_its_bounds(kind: str) -> None:
    grey = torch.full((64, 3, 16, 16), 0.5)
    found = augment(grey, kind, torch.Generator().manual_seed(0), Jitter(light=0.05))
    levels = found[:, 0, 8, 8]
    # A factor of .95 to 1.05, and up to .05 added.
    assert levels.min() >= 0.5 * 0.95 - 0.05 - 1e-6
    assert levels.max() <= 0.5 * 1.05 + 0.05 + 1e-6
    assert levels.std() > 0.01
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("kind", ["rotatable_object", "object"])
def test_jitter_shifts_an_object_within_its_bounds(kind: str) -> None:
    # A white square in the middle, whose centre no symmetry moves.
    square = torch.zeros(64, 3, 65, 65)
    square[:, :, 24:41, 24:41] = 1
    found = augment(square, kind, torch.Generator().manual_seed(0), Jitter(shift=4 / 65))[:, 0]
    at = torch.arange(65.0)
    for weights in (found.sum(1), found.sum(2)):
        centre = (weights * at).sum(1) / weights.sum(1) - 32
        assert centre.abs().max() < 4.2
        assert centre.std() > 1.5


def test_without_jitter_the_draws_are_the_same_as_before_there_was_any() -> None:
    images = pictures()
    for kind in ("texture", "rotatable_object", "object"):
        plain = augment(images, kind, torch.Generator().manual_seed(3))
        assert torch.equal(plain, augment(images, kind, torch.Generator().manual_seed(3), Jitter()))


def test_jitter_that_is_not_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"light must be in \[0, 0\.5\), got 0\.5"):
        Jitter(light=0.5)
    with pytest.raises(ValueError, match=r"shift must be in \[0, 0\.5\), got -0\.1"):
        Jitter(shift=-0.1)
