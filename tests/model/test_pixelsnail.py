"""The prior is causal, whatever its width, and says so with proper likelihoods."""

import pytest
import torch

from vqad.model.pixelsnail import PixelSNAIL, PixelSNAILConfig, place_histogram
from vqad.model.resample import likelihood_of

CONFIGS = [
    PixelSNAILConfig(num_codes=11, latent_size=5, width=8, num_stages=1, num_heads=1),
    PixelSNAILConfig(num_codes=7, latent_size=6, width=12, num_stages=2, num_heads=3, reach=1),
    PixelSNAILConfig(num_codes=5, latent_size=4, width=16, num_stages=3, num_heads=4, reach=3),
    PixelSNAILConfig(num_codes=6, latent_size=4, width=8, num_stages=1, place_bias=True),
]


def prior_of(config: PixelSNAILConfig, seed: int = 0) -> PixelSNAIL:
    torch.manual_seed(seed)
    prior = PixelSNAIL(config)
    if prior.place_bias is not None:
        prior.place_bias.normal_()
    return prior.eval().double()


def codes_of(config: PixelSNAILConfig, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (batch, config.latent_size, config.latent_size)
    return torch.randint(config.num_codes, size, generator=generator)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_changing_a_code_never_changes_the_opinion_of_an_earlier_cell_or_its_own(
    config: PixelSNAILConfig,
) -> None:
    prior = prior_of(config)
    codes = codes_of(config, 1)
    num_cells = config.latent_size**2
    # All cells at once: row n of the batch has cell n changed.
    changed = codes.repeat(num_cells, 1, 1).flatten(1)
    changed.fill_diagonal_(0)
    changed += torch.diag((codes.flatten() + 1) % config.num_codes)
    before = prior(codes).flatten(2)
    after = prior(changed.view(-1, *codes.shape[1:])).flatten(2)
    moved = (after - before).abs().amax(1) > 1e-9
    assert not torch.tril(moved).any()
    # And it does change the opinion of the cell to the right, or the test would see nothing.
    right = torch.arange(1, num_cells) % config.latent_size != 0
    assert moved.diagonal(1)[right].all()


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_the_last_cell_sees_the_first(config: PixelSNAILConfig) -> None:
    prior = prior_of(config)
    codes = codes_of(config, 1)
    other = codes.clone()
    other[0, 0, 0] = (other[0, 0, 0] + 1) % config.num_codes
    assert not torch.equal(prior(codes)[..., -1, -1], prior(other)[..., -1, -1])


@torch.no_grad()
def test_the_first_cell_has_one_distribution_for_all_maps() -> None:
    config = CONFIGS[0]
    logits = prior_of(config)(codes_of(config, 6))[..., 0, 0]
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


@torch.no_grad()
def test_likelihoods_of_all_codes_at_a_cell_add_up_to_one() -> None:
    config = CONFIGS[1]
    logits = prior_of(config)(codes_of(config, 2))
    every = [
        likelihood_of(logits, torch.full_like(codes_of(config, 2), code))
        for code in range(config.num_codes)
    ]
    torch.testing.assert_close(sum(every), torch.ones_like(every[0]))


@torch.no_grad()
def test_a_map_is_judged_alike_alone_and_among_others() -> None:
    config = CONFIGS[2]
    prior = prior_of(config)
    codes = codes_of(config, 8)
    alone = torch.cat([prior(each[None]) for each in codes])
    torch.testing.assert_close(prior(codes), alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 10, "num_heads": 4}, "width must be a multiple of num_heads, got 10 and 4"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"num_stages": 0}, r"num_stages must be in \[1, 64\], got 0"),
    ],
)
def test_impossible_sizes_are_refused_by_name_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelSNAILConfig(**change)


def test_the_histogram_of_places_is_a_distribution_at_each_place_and_never_zero() -> None:
    config = CONFIGS[3]
    maps = codes_of(config, 20)
    maps[:, 0, 0] = 2
    shares = place_histogram(maps, config.num_codes)
    torch.testing.assert_close(shares.sum(0), torch.ones(4, 4))
    assert shares.amin() > 0
    # Twenty maps with this code, and the mean over all places as one map more.
    assert 20 / 21 < shares[2, 0, 0] < 1
    torch.testing.assert_close(
        shares[:, 1, 2],
        (torch.bincount(maps[:, 1, 2], minlength=6) / 21).clamp(min=0),
        atol=0.05,
        rtol=0,
    )


@torch.no_grad()
def test_a_prior_with_place_bias_starts_at_the_histogram_of_its_maps() -> None:
    config = CONFIGS[3]
    torch.manual_seed(0)
    prior, maps = PixelSNAIL(config).eval(), codes_of(config, 30)
    prior.start_at(maps)
    expected = place_histogram(maps, config.num_codes)
    torch.testing.assert_close(prior(maps[:2]).softmax(1), expected.expand(2, -1, -1, -1))


@torch.no_grad()
def test_a_prior_without_place_bias_starts_at_its_random_weights() -> None:
    prior, maps = prior_of(CONFIGS[0]), codes_of(CONFIGS[0], 2)
    before = prior(maps)
    prior.start_at(maps)
    torch.testing.assert_close(prior(maps), before)
    assert "place_bias" not in prior.state_dict()
