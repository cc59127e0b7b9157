"""Codes stay in use: k-means places the vectors, moving averages move them, idle ones restart."""

import pytest
import torch
from torch import Tensor

from vqad.model.codebook import Codebook, CodebookConfig, kmeans

# Three places in the plane, far from one another.
PLACES = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0]])
PLANE = CodebookConfig(num_codes=3, code_dim=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points_around_the_places(num_each: int) -> Tensor:
    noise = torch.randn(num_each, 3, 2, generator=generator()) * 0.1
    return (PLACES + noise).flatten(0, 1)


def as_latents(points: Tensor) -> Tensor:
    """Points (num, dim) as a row of cells (1, dim, 1, num)."""
    return points.T[None, :, None]


def order(points: Tensor) -> Tensor:
    return points[points.sum(1).argsort()]


def test_moving_averages_converge_to_the_means_of_their_clusters() -> None:
    codebook = Codebook(PLANE)
    codebook.vectors.copy_(PLACES * 0.5)
    codebook.sums.copy_(codebook.vectors)
    points = points_around_the_places(20)
    latents = as_latents(points)
    for step in range(900):
        codebook.learn(latents, codebook.nearest(latents), generator(step))
    torch.testing.assert_close(codebook.vectors, points.view(20, 3, 2).mean(0), atol=1e-2, rtol=0)
    torch.testing.assert_close(codebook.counts, torch.full((3,), 20.0), atol=0.1, rtol=0)


def test_one_step_of_the_averages_is_what_decay_says() -> None:
    codebook = Codebook(PLANE)
    latents = as_latents(PLACES)
    counts, sums = codebook.counts.clone(), codebook.sums.clone()
    codebook.learn(latents, torch.tensor([[[0, 0, 1]]]), generator())
    counts = 0.99 * counts + 0.01 * torch.tensor([2.0, 1.0, 0.0])
    seen = torch.stack([PLACES[0] + PLACES[1], PLACES[2], torch.zeros(2)])
    torch.testing.assert_close(codebook.counts, counts)
    torch.testing.assert_close(codebook.sums, 0.99 * sums + 0.01 * seen)
    torch.testing.assert_close(codebook.vectors, codebook.sums / counts[:, None])


def test_an_idle_code_restarts_on_a_latent_of_the_batch_and_others_stay() -> None:
    codebook = Codebook(PLANE)
    far_away = torch.tensor([[100.0, 100.0]])
    codebook.vectors.copy_(torch.cat([PLACES[:2], far_away]))
    codebook.counts.copy_(torch.tensor([30.0, 30.0, 0.1]))
    codebook.sums.copy_(codebook.vectors * codebook.counts[:, None])
    latents = as_latents(PLACES[:2].repeat(30, 1))
    codebook.learn(latents, codebook.nearest(latents), generator())
    torch.testing.assert_close(codebook.vectors[:2], PLACES[:2])
    assert min((codebook.vectors[2] - place).norm() for place in PLACES[:2]) < 1e-4
    # With an even share to its name, it is given time before it counts as idle again.
    torch.testing.assert_close(codebook.counts[2], torch.tensor(20.0))


def test_a_code_in_use_is_not_restarted() -> None:
    codebook = Codebook(PLANE)
    codebook.vectors.copy_(PLACES)
    codebook.counts.fill_(20.0)
    codebook.sums.copy_(PLACES * 20)
    latents = as_latents(PLACES[:2].repeat(30, 1))
    codebook.learn(latents, codebook.nearest(latents), generator())
    torch.testing.assert_close(codebook.vectors, PLACES)


@pytest.mark.parametrize("seed", range(10))
def test_kmeans_finds_separated_clusters(seed: int) -> None:
    points = points_around_the_places(50)
    # More centres than clusters, as always here, so that no unlucky start misses one.
    centres, counts = kmeans(points, 12, generator(seed))
    nearest = (PLACES[:, None] - centres).norm(dim=-1).amin(1)
    assert nearest.max() < 0.3
    assert centres.shape == (12, 2)
    assert counts.min() >= 1


def test_kmeans_of_as_many_centres_as_clusters_are_their_means_and_sizes() -> None:
    points = torch.cat([points_around_the_places(10), PLACES[:1].repeat(20, 1)])
    found = [kmeans(points, 3, generator(seed)) for seed in range(10)]
    parts = points[:30].view(10, 3, 2).sum(0)
    sizes = torch.tensor([30.0, 10.0, 10.0])
    means = (parts + torch.tensor([[200.0, 0.0], [0.0, 0.0], [0.0, 0.0]])) / sizes[:, None]
    same = [
        (centres, counts) for centres, counts in found if (order(centres) - order(means)).norm() < 1
    ]
    assert len(same) >= 3
    for centres, counts in same:
        torch.testing.assert_close(order(centres), order(means))
        assert counts.sort().values.tolist() == [10.0, 10.0, 30.0]


def test_the_codebook_starts_on_the_centres_as_if_it_had_always_seen_the_batch() -> None:
    codebook = Codebook(PLANE)
    latents = as_latents(points_around_the_places(30))
    codebook.start(latents, generator(1))
    started = codebook.vectors.clone()
    assert codebook.counts.sum() == 90
    codebook.learn(latents, codebook.nearest(latents), generator())
    torch.testing.assert_close(codebook.vectors, started)
