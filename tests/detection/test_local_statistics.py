"""Local statistics: features, context, metric, distances and score, each held against slow code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from vqad.detection import local_neighbours, local_statistics
from vqad.detection.area_score import (
    USUAL_SCORE,
    AreaRule,
    UsualAreas,
    agreeing_map,
    area_score,
    positive,
    usual_areas,
    wide_field,
)
from vqad.detection.image_context import fit_context, num_components
from vqad.detection.local_features import FeatureOptions, features, is_grey
from vqad.detection.local_gaussian import fit_gaussian
from vqad.detection.local_neighbours import LocalNeighbours, fit_neighbours
from vqad.detection.local_statistics import LocalStatistics, LocalStatisticsConfig
from vqad.detection.score import score
from vqad.detection.weights import DetectorError, load_weights, record_of, weights_of
from vqad.synthetic import draw

SIZE_PX = 32
OPTIONS = FeatureOptions(image_size_px=SIZE_PX)


def pictures(num: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = [draw("washer", size_px=SIZE_PX, rng=rng) for _ in range(num)]
    return [one.astype(np.float32) / 255 for one in drawn]


def found(num: int = 20) -> torch.Tensor:
    return torch.from_numpy(np.stack([features(one, OPTIONS) for one in pictures(num)]))


@pytest.mark.parametrize(("size_px", "grid"), [(256, 64), (128, 64), (64, 32), (32, 16)])
@pytest.mark.parametrize("grey", [False, True])
def test_every_size_has_a_grid_of_places(size_px: int, grid: int, grey: bool) -> None:
    options = FeatureOptions(image_size_px=size_px, grey=grey)
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 1, (size_px, size_px, 3)).astype(np.float32)
    one = features(picture, options)
    assert one.shape == (grid, grid, options.num_channels)
    assert np.isfinite(one).all()


def test_a_size_that_no_grid_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of 2, got 33"):
        FeatureOptions(image_size_px=33)


def test_an_even_picture_has_colour_and_no_detail() -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    one = features(grey, FeatureOptions(image_size_px=64, grey=True))
    # At two of the three scales the brightness itself is a feature.
    assert sum(np.allclose(one[..., at], 0.5) for at in range(28)) == 2
    assert one[..., -8:] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("line", "channel"), [(np.s_[32, :], 1), (np.s_[:, 32], 5)])
def test_a_dark_line_shows_most_in_the_channel_of_its_direction(line: tuple, channel: int) -> None:
    picture = np.full((64, 64, 3), 0.5, np.float32)
    picture[line] = 0.2
    lines = features(picture, FeatureOptions(image_size_px=64, grey=True))[16, 16, -8:]
    assert int(lines.argmax()) == channel


def test_exposure_takes_out_how_bright_an_image_is() -> None:
    options = FeatureOptions(image_size_px=64, grey=True, exposure=True)
    rng = np.random.default_rng(0)
    grain = rng.uniform(0.3, 0.6, (64, 64, 1)).astype(np.float32).repeat(3, 2)
    dimmed, whole = features(0.8 * grain, options), features(grain, options)
    assert dimmed == pytest.approx(whole, abs=0.03)


def test_a_product_without_colour_is_found_to_be_grey() -> None:
    grey = [one.mean(2, keepdims=True).repeat(3, 2) for one in pictures(2)]
    assert is_grey(grey)
    assert not is_grey([one * np.array([1, 0.5, 0.2], np.float32) for one in grey])


def test_the_distances_are_those_of_a_search_through_the_bank() -> None:
    some = found(8)
    gaussian = fit_gaussian(some[:6])
    neighbours = fit_neighbours(some[:6], gaussian)
    white_distance, local_distance = neighbours.distances(some[6:])
    white = some[6:] @ neighbours.to_white
    for row, col in ((0, 0), (7, 9), (15, 15), (1, 14)):
        window = [
            (row + down, col + right)
            for down in (-2, 0, 2)
            for right in (-2, 0, 2)
            if 0 <= row + down < 16 and 0 <= col + right < 16
        ]
        bank = torch.cat([neighbours.bank[place].T for place in window])
        for image in range(2):
            away = white[image, row, col] - bank
            expected = away.square().sum(1).min().sqrt().item()
            assert white_distance[image, row, col].item() == pytest.approx(expected, rel=1e-3)
            lengths = torch.einsum("nc,cd,nd->n", away, neighbours.precision[row, col], away)
            expected = lengths.min().sqrt().item()
            assert local_distance[image, row, col].item() == pytest.approx(expected, rel=2e-3)


def test_an_image_of_the_bank_is_at_no_distance_from_it() -> None:
    some = found(6)
    neighbours = fit_neighbours(some, fit_gaussian(some))
    assert isinstance(neighbours, LocalNeighbours)
    assert neighbours.distances(some)[0].max() < 0.02


def test_few_images_have_few_components() -> None:
    assert [num_components(num) for num in (10, 50, 200, 1000)] == [1, 2, 8, 8]


def test_what_a_lamp_does_to_all_places_is_explained_by_the_whole_image() -> None:
    rng = torch.Generator().manual_seed(0)
    effect = torch.randn(16, 16, 5, generator=rng).abs() + 1
    light = torch.randn(100, 1, 1, 1, generator=rng)
    some = light * effect + 0.05 * torch.randn(100, 16, 16, 5, generator=rng)
    context = fit_context(some, some.flatten(0, 2).std(0))
    left = context.left(some)
    assert left.var(0).mean() < 0.2 * some.var(0).mean()
    # A defect in a few places hardly changes what the image as a whole is.
    broken = some[:1].clone()
    broken[:, 2:5, 2:5] += 50
    assert (context.left(broken) - left[:1])[:, 8:, 8:].abs().max() < 0.1


@pytest.fixture(scope="module")
def fitted() -> LocalStatistics:
    statistics = local_statistics.fit(found(), OPTIONS, seed=0)
    distances = statistics.distances(found())
    statistics.standard.copy_(local_statistics.standard_of(distances + 1))
    return statistics


def test_distances_that_are_all_0_have_a_standard_that_fields_can_be_made_with() -> None:
    standard = local_statistics.standard_of(np.zeros((2, 5, 8, 8), np.float32))
    np.testing.assert_allclose(standard, [[0, 1e-3, 1]] * 2, rtol=1e-6)


def test_a_strange_patch_stands_out_where_it_is(fitted: LocalStatistics) -> None:
    normal = pictures(1, seed=9)[0]
    broken = normal.copy()
    broken[8:14, 18:24] = (1, 0, 0)
    before, after = fitted.inspect(np.stack([normal, broken]))
    row, col = np.unravel_index(after.argmax(), after.shape)
    assert 3 <= row <= 7
    assert 8 <= col <= 12
    assert after.max() > 2 * before.max()


def test_a_batch_gives_what_its_images_give(fitted: LocalStatistics) -> None:
    some = np.stack(pictures(4, seed=3))
    together = fitted.inspect(some)
    for one, alone in zip(together, (fitted.inspect(each[None])[0] for each in some), strict=True):
        assert one == pytest.approx(alone, rel=1e-4, abs=1e-3)


def test_saved_and_loaded_they_give_equal_bits(fitted: LocalStatistics, tmp_path: Path) -> None:
    data = weights_of(fitted)
    assert load(data)["bank"].dtype == torch.float16
    path = tmp_path / "local_statistics.safetensors"
    path.write_bytes(data)
    again = LocalStatistics(fitted.config)
    load_weights(again, str(path), record_of(data))
    some = np.stack(pictures(3, seed=4))
    assert np.array_equal(again.inspect(some), fitted.inspect(some))
    with pytest.raises(DetectorError, match="does not match its recorded hash"):
        load_weights(again, str(path), {**record_of(data), "bytes": 1})


def test_loaded_parts_replace_those_that_were_in_use(
    fitted: LocalStatistics, tmp_path: Path
) -> None:
    path, data = tmp_path / "local_statistics.safetensors", weights_of(fitted)
    path.write_bytes(data)
    other = local_statistics.fit(found(), OPTIONS, seed=1)
    some = np.stack(pictures(2, seed=4))
    other.inspect(some)
    load_weights(other, str(path), record_of(data))
    assert np.array_equal(other.inspect(some), fitted.inspect(some))


def test_parts_that_were_released_are_made_again(fitted: LocalStatistics) -> None:
    some = np.stack(pictures(2, seed=5))
    before = fitted.inspect(some)
    fitted.release()
    np.testing.assert_array_equal(fitted.inspect(some), before)


def test_a_bank_has_a_bound() -> None:
    with pytest.raises(ValueError, match="num_in_bank must be from 1 to 64, got 65"):
        LocalStatisticsConfig(features=OPTIONS, num_in_bank=65, num_components=1)
    largest = LocalStatisticsConfig(
        features=FeatureOptions(image_size_px=256), num_in_bank=64, num_components=8
    )
    with torch.device("meta"):
        state = LocalStatistics(largest).state_dict()
    assert sum(each.nbytes for each in state.values()) <= 50e6


def noise(num: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.normal(0, 1, (num, 32, 32)).astype(np.float32))


def test_normal_images_score_about_ten_and_small_and_large_defects_more() -> None:
    usual = usual_areas(noise(40))
    scores = [area_score(field, usual) for field in noise(40, seed=1)]
    assert abs(np.median(scores) - USUAL_SCORE) < 2
    small, large = noise(2, seed=2)
    small[4:6, 4:6] += 8
    large[8:24, 8:24] += 1.5
    assert min(area_score(small, usual), area_score(large, usual)) > max(scores)


@pytest.mark.parametrize("broken", [{"medians": [1.0]}, {"deviations": [0.0] * 5}])
def test_usual_areas_that_no_score_can_be_made_with_are_refused(broken: dict) -> None:
    with pytest.raises(ValueError, match="usual areas must be"):
        UsualAreas(**{"medians": [1.0] * 5, "deviations": [1.0] * 5, **broken})


@pytest.mark.parametrize("image_score", [0.0, 9.0, 12.1, 30.0])
@pytest.mark.parametrize("scale", [0.1, 5.0, 100.0])
def test_the_score_of_an_agreeing_map_is_the_score_of_the_image(
    image_score: float, scale: float
) -> None:
    raw = wide_field(noise(1)[0], size_px=64) * np.float32(scale)
    changed = agreeing_map(raw, image_score=image_score, minimum_area_px=16)
    assert score(changed, minimum_area_px=16) == np.float32(image_score)
    assert changed.dtype == np.float32
    level = score(raw, minimum_area_px=16)
    lower = raw < min(level, 0.99 * image_score)
    assert np.array_equal(changed[lower], raw[lower])
    order = np.argsort(raw, axis=None)
    assert (np.diff(changed.ravel()[order]) >= 0).all()
    if level > image_score > 0:
        assert changed.argmax() == raw.argmax()
        assert np.unique(changed).size > 0.5 * np.unique(raw).size


def test_places_at_once_as_on_a_gpu_have_the_distances_of_row_after_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, images = (
        torch.randn(shape, generator=generator) for shape in ((6, 7, 3, 5), (2, 6, 7, 3))
    )
    precision = torch.eye(3).expand(6, 7, 3, 3) + 0.1
    neighbours = LocalNeighbours(to_white=torch.eye(3), bank=bank, precision=precision)
    by_row = neighbours.distances(images)
    monkeypatch.setattr(torch, "unbind", local_neighbours._all_at_once)
    for one, other in zip(neighbours.distances(images), by_row, strict=True):
        torch.testing.assert_close(one, other)
        assert one.max() > 0.1


def test_low_values_of_a_map_keep_their_order_above_0() -> None:
    field = np.linspace(-4, 4, 400, dtype=np.float32).reshape(20, 20)
    found = positive(field)
    assert found.min() > 0
    assert (np.diff(found.ravel()) > 0).all()
    np.testing.assert_array_equal(found[field >= 0.5], field[field >= 0.5])
    assert np.abs(np.diff(found.ravel())).max() < 0.021  # no step


def test_a_map_without_anything_unusual_agrees_as_well() -> None:
    flat = np.zeros((64, 64), np.float32)
    changed = agreeing_map(flat, image_score=11.0, minimum_area_px=16)
    assert score(changed, minimum_area_px=16) == 11.0


def test_a_map_has_one_scale_up_to_its_bend_and_another_above() -> None:
    field, usual = noise(1)[0], usual_areas(noise(40))
    wide = wide_field(field, size_px=64)
    straight = AreaRule(usual=usual, scale=10.0).map_of(field, size_px=64)
    np.testing.assert_array_equal(straight, wide * np.float32(10))
    bent = AreaRule(usual=usual, scale=10.0, bend=12.0, scale_above=3.0).map_of(field, size_px=64)
    low = straight <= 12
    np.testing.assert_array_equal(bent[low], straight[low])
    assert bent[~low] == pytest.approx(12 + 3 * (wide[~low] - 1.2), rel=1e-4)
    order = np.argsort(straight, axis=None)
    assert (np.diff(bent.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("broken", [{"scale": 0.0}, {"scale_above": np.inf}, {"bend": 0.0}])
def test_scales_that_make_no_map_are_refused(broken: dict) -> None:
    with pytest.raises(ValueError, match="must be above 0 and finite"):
        AreaRule(**{"usual": usual_areas(noise(4)), "scale": 1.0, **broken})
