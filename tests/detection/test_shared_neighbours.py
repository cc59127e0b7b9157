"""Local statistics of tiles: one bank for all places, held against a slow search."""

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.detection.test_local_statistics import OPTIONS, SIZE_PX, found
from vqad.detection import local_statistics
from vqad.detection.local_statistics import LocalStatistics, LocalStatisticsConfig
from vqad.detection.shared_neighbours import MOST_SHARED, SharedNeighbours, fit_shared
from vqad.detection.weights import weights_of


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return found()


@pytest.fixture(scope="module")
def neighbours(features: torch.Tensor) -> SharedNeighbours:
    return fit_shared(features, seed=0)


def test_distances_are_those_of_a_search_through_the_whole_bank(
    features: torch.Tensor, neighbours: SharedNeighbours
) -> None:
    some = features[:2, ::5, ::5] * 1.1
    white = some.double() @ neighbours.to_white.double()
    away = white[..., None, :] - neighbours.bank[0, 0].T.double()
    wanted = away.square().sum(-1).amin(-1).sqrt()
    local = (away @ neighbours.precision[0, 0].double() * away).sum(-1).amin(-1).sqrt()
    for distances, slow in zip(neighbours.distances(some), (wanted, local), strict=True):
        torch.testing.assert_close(distances.double(), slow, rtol=1e-3, atol=2e-2)


def test_what_is_rare_is_in_the_bank(features: torch.Tensor) -> None:
    rare = features.clone()
    rare[0, 0, 0] += 5
    bank = fit_shared(rare, seed=0)
    (distance, _) = bank.distances(rare[:1, :1, :1])
    assert float(distance) < 0.1
    assert bank.bank.shape[-1] == MOST_SHARED


def test_the_same_place_elsewhere_is_as_near(neighbours: SharedNeighbours) -> None:
    some = found(1)
    turned = some.flip(1).flip(2)
    for distances, others in zip(
        neighbours.distances(some), neighbours.distances(turned), strict=True
    ):
        torch.testing.assert_close(distances.flip(1).flip(2), others)


@pytest.fixture(scope="module")
def fitted(features: torch.Tensor) -> LocalStatistics:
    statistics = local_statistics.fit(features, OPTIONS, seed=0, shared=True)
    distances = statistics.distances(features)
    statistics.standard.copy_(local_statistics.standard_of(distances))
    return statistics


def test_a_strange_patch_stands_out_where_it_is(fitted: LocalStatistics) -> None:
    picture = np.full((SIZE_PX, SIZE_PX, 3), 0.5, np.float32)
    picture[8:16, 20:28] = np.random.default_rng(0).uniform(0, 1, (8, 8, 3))
    (field,) = fitted.inspect(picture[None])
    row, col = np.unravel_index(field.argmax(), field.shape)
    assert 4 <= row < 8
    assert 10 <= col < 14


def test_residuals_have_a_place_for_each_of_the_grid(fitted: LocalStatistics) -> None:
    features = found(2)
    residuals = fitted.residuals(features, fitted.distances(features))
    assert residuals.shape == (2, 2 * OPTIONS.num_channels + 2, OPTIONS.grid, OPTIONS.grid)
    assert residuals.isfinite().all()


def test_saved_and_loaded_they_give_equal_bits(fitted: LocalStatistics) -> None:
    again = LocalStatistics(fitted.config)
    again.load_state_dict(load(weights_of(fitted)))
    features = found(2)
    np.testing.assert_array_equal(again.distances(features), fitted.distances(features))


def test_a_shared_bank_has_a_bound_of_its_own() -> None:
    with pytest.raises(ValueError, match="num_in_bank must be from 1 to 2048, got 2049"):
        LocalStatisticsConfig(features=OPTIONS, num_in_bank=2049, num_components=1, shared=True)
