"""Networks in bfloat16 round where the module says, whatever kernels compute them."""

from typing import Final

import pytest
import torch
from torch import Tensor, nn

from tests.model.test_incremental_prior import NUM_CELLS
from tests.model.test_pixelsnail import codes_of, prior_of
from tests.model.test_resample import CONFIG, sharp_prior
from tests.model.test_vqvae import CONFIG as VQVAE_CONFIG
from tests.model.test_vqvae import model_of
from vqad.model.bfloat16 import Rounded, in_precision, operand
from vqad.model.incremental_prior import IncrementalPrior
from vqad.model.pixelsnail import PixelSNAIL
from vqad.model.resample import CLOSE_IN_BFLOAT16, ResampleOptions, in_runs, likelihood_of
from vqad.model.resample_reference import agreement, close_neighbours, raster
from vqad.model.segmenter import Segmenter, SegmenterConfig
from vqad.model.vqvae import VQVAEConfig

# With 8 significant bits a number is rounded by at most this share.
ROUNDING: Final = 2.0**-8
KERNELS = pytest.mark.parametrize("native", [True, False], ids=["native", "float32 kernels"])


def is_rounded(x: Tensor) -> bool:
    return torch.equal(x.float(), operand(x, torch.float32))


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, 3, padding=1)


@pytest.mark.parametrize("kernels", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_a_convolution_rounds_operands_and_sums_and_nothing_between(kernels: torch.dtype) -> None:
    conv, x = convolution(), torch.randn(2, 8, 9, 7)
    exact = nn.Conv2d(8, 16, 3, padding=1).double()
    for ours, theirs in zip(exact.parameters(), conv.parameters(), strict=True):
        ours.copy_(operand(theirs, torch.float32))
    sums = exact(operand(x, torch.float32).double())
    found = Rounded(conv, kernels, wide=True)(x)
    assert found.dtype == torch.float32
    assert is_rounded(found)
    # Sums in float32 are so exact that only their own rounding is seen.
    error = (found - sums).abs() / sums.abs().clamp(min=1e-3)
    assert float(error.max()) < 1.01 * ROUNDING


@torch.no_grad()
def test_both_kinds_of_kernels_give_the_same_numbers_but_for_roundings() -> None:
    conv, x = convolution(), torch.randn(4, 8, 16, 16)
    one, other = (Rounded(conv, each, wide=True)(x) for each in (torch.bfloat16, torch.float32))
    assert float((one != other).float().mean()) < 0.01
    torch.testing.assert_close(one, other, rtol=2 * ROUNDING, atol=1e-4)


@torch.no_grad()
def test_a_network_in_float32_is_itself_and_one_in_bfloat16_a_copy() -> None:
    prior = prior_of(CONFIG, 0).float()
    before = [each.clone() for each in prior.parameters()]
    assert in_precision(prior, "float32") is prior
    rounded = in_precision(prior, "bfloat16")
    assert rounded is not prior
    assert all(torch.equal(a, b) for a, b in zip(before, prior.parameters(), strict=True))
    assert not any(isinstance(each, Rounded) for each in prior.modules())


@KERNELS
@torch.no_grad()
def test_codes_and_pictures_in_bfloat16_are_nearly_those_in_float32(native: bool) -> None:
    vqvae, images = model_of(VQVAE_CONFIG, 0).eval(), torch.rand(4, 3, 32, 32)
    vqvae.codebook.start(vqvae.encoder(images * 2 - 1), torch.Generator().manual_seed(0))
    rounded = in_precision(vqvae, "bfloat16", native=native)
    latents, ours = vqvae.encoder(images * 2 - 1), rounded.encoder(images * 2 - 1)
    assert ours.dtype == torch.float32
    assert 0 < float((ours - latents).square().mean()) < 1e-4 * float(latents.square().mean())
    codes = vqvae.encode(images)
    decoded = rounded.decode(codes)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, vqvae.decode(codes), rtol=0, atol=2 / 255)


@KERNELS
@torch.no_grad()
def test_the_first_layer_and_the_last_one_of_each_network_are_in_float32(native: bool) -> None:
    for stem in ("convolutions", "pixel_blocks"):
        config = VQVAEConfig(
            image_size_px=32, latent_size=4, width=8, num_residual_blocks=1, stem=stem
        )
        rounded = in_precision(model_of(config, 0), "bfloat16", native=native)
        layers = [each for each in rounded.encoder if isinstance(each, nn.Conv2d)]
        assert [isinstance(each, Rounded) for each in layers] == [
            False,
            *[True] * (len(layers) - 2),
            False,
        ]
        assert isinstance(rounded.decoder[0], Rounded)
        assert not is_rounded(rounded.decode(torch.zeros(1, 4, 4, dtype=torch.int64)))
    logits = in_precision(prior_of(CONFIG, 0).float(), "bfloat16", native=native)(
        codes_of(CONFIG, 1)
    )
    assert logits.dtype == torch.float32
    assert not is_rounded(logits)


@KERNELS
@torch.no_grad()
def test_a_segmenter_in_bfloat16_finds_what_it_finds_in_float32(native: bool) -> None:
    torch.manual_seed(0)
    segmenter, residuals = Segmenter(SegmenterConfig(num_channels=12)), torch.randn(8, 12, 16, 16)
    segmenter.train()(residuals)  # so that its normalisations are not those of a new network
    expected = segmenter.eval()(residuals)
    found = in_precision(segmenter, "bfloat16", native=native)(residuals)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def rounded_prior(seed: int, native: bool) -> PixelSNAIL:
    return in_precision(sharp_prior(seed).float(), "bfloat16", native=native)


@KERNELS
@torch.no_grad()
def test_passes_taken_up_again_round_where_whole_passes_do(native: bool) -> None:
    prior = in_precision(prior_of(CONFIG, 0).float(), "bfloat16", native=native)
    incremental, codes = IncrementalPrior(prior), codes_of(CONFIG, 3, 1)
    begun, cache = incremental.begin(codes)
    whole = prior(codes)
    torch.testing.assert_close(begun, whole, rtol=0, atol=0.02)
    start = torch.tensor([0, 14, 29])
    resumed = incremental.resume(cache, codes.flatten(1), start, NUM_CELLS)
    for each, first in enumerate(start.tolist()):
        cells = range(first, NUM_CELLS)
        torch.testing.assert_close(
            resumed[each, :, : len(cells)],
            whole.flatten(2)[each, :, list(cells)],
            rtol=0,
            atol=0.02,
        )


@KERNELS
@pytest.mark.parametrize("eta", [0.02, 0.3])
@torch.no_grad()
def test_resampling_gives_the_codes_of_the_oracle_in_bfloat16(eta: float, native: bool) -> None:
    options, ties = ResampleOptions(eta=eta), 0
    for seed in range(3):
        prior, codes = rounded_prior(seed, native), codes_of(CONFIG, 4, seed)
        oracle = raster(prior, codes, options).codes
        for width in (5, 50):
            found = in_runs(IncrementalPrior(prior), codes, options, width=width).codes
            counted = agreement(prior, codes, oracle, found, options, closeness=CLOSE_IN_BFLOAT16)
            assert counted.num_different == 0, (seed, width)
            ties += counted.num_ties
    assert ties <= 2  # of 24 maps


def test_a_cell_beside_a_close_call_is_one_itself() -> None:
    likelihood = torch.ones(1, 3, 3)
    likelihood[0, 1, 1] = 0.0201
    options = ResampleOptions(eta=0.02)
    expected = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert torch.equal(close_neighbours(likelihood, options, closeness=0.05)[0], expected)
    assert not close_neighbours(likelihood, options, closeness=1e-3).any()


@KERNELS
@torch.no_grad()
def test_the_likelihoods_of_a_map_are_the_same_alone_and_among_others(native: bool) -> None:
    prior = IncrementalPrior(in_precision(prior_of(CONFIG, 0).float(), "bfloat16", native=native))
    codes = codes_of(CONFIG, 6, 1)
    together = likelihood_of(prior.begin(codes)[0], codes)
    alone = torch.cat([likelihood_of(prior.begin(each)[0], each) for each in codes.split(1)])
    torch.testing.assert_close(alone, together, rtol=CLOSE_IN_BFLOAT16, atol=0)
