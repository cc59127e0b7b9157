"""Passes taken up again give what whole passes give."""

from dataclasses import replace

import pytest
import torch

from tests.model.test_pixelsnail import codes_of, prior_of
from vqad.model.incremental_prior import IncrementalPrior
from vqad.model.pixelsnail import PixelSNAILConfig

CONFIG = PixelSNAILConfig(num_codes=9, latent_size=6, width=12, num_stages=2, num_heads=2)
NUM_CELLS = 36


@pytest.fixture(params=[False, True], ids=["alone", "place bias"])
def resumable(request: pytest.FixtureRequest) -> IncrementalPrior:
    return IncrementalPrior(prior_of(replace(CONFIG, place_bias=request.param), 0))


@torch.no_grad()
def test_the_first_pass_is_a_pass(resumable: IncrementalPrior) -> None:
    codes = codes_of(CONFIG, 3, 1)
    torch.testing.assert_close(resumable.begin(codes)[0], resumable.prior(codes))


@pytest.mark.parametrize("width", [1, 4, 7, NUM_CELLS])
@torch.no_grad()
def test_runs_behind_a_change_give_the_logits_of_a_whole_pass(
    resumable: IncrementalPrior, width: int
) -> None:
    codes = codes_of(CONFIG, 3, 1).flatten(1)
    _, kept = resumable.begin(codes.view(3, 6, 6))
    # At another place in every map: in the first cell, in the middle of a row, at a row's end.
    first = torch.tensor([0, 14, 29])
    codes[torch.arange(3), first] = (codes[torch.arange(3), first] + 1) % CONFIG.num_codes
    whole = resumable.prior(codes.view(3, 6, 6)).flatten(2)
    for start in range(1, NUM_CELLS, width):
        found = resumable.resume(kept, codes, first + start, width)
        for each in range(3):
            cells = range(
                int(first[each]) + start, min(NUM_CELLS, int(first[each]) + start + width)
            )
            torch.testing.assert_close(found[each, :, : len(cells)], whole[each, :, list(cells)])


@torch.no_grad()
def test_what_is_kept_of_some_maps_serves_those(resumable: IncrementalPrior) -> None:
    codes = codes_of(CONFIG, 4, 2)
    _, kept = resumable.begin(codes)
    some = torch.tensor([3, 1])
    found = resumable.resume(kept.of(some), codes[some].flatten(1), torch.tensor([20, 8]), 5)
    whole = resumable.prior(codes).flatten(2)
    torch.testing.assert_close(found[0], whole[3, :, 20:25])
    torch.testing.assert_close(found[1], whole[1, :, 8:13])


@torch.no_grad()
def test_a_cache_of_some_maps_of_some_maps_is_theirs(resumable: IncrementalPrior) -> None:
    codes = codes_of(CONFIG, 5, 2)
    _, kept = resumable.begin(codes)
    kept = kept.of(torch.tensor([4, 1, 2])).of(torch.tensor([0, 2]))
    found = resumable.resume(kept, codes[[4, 2]].flatten(1), torch.tensor([20, 8]), 5)
    whole = resumable.prior(codes).flatten(2)
    torch.testing.assert_close(found[0], whole[4, :, 20:25])
    torch.testing.assert_close(found[1], whole[2, :, 8:13])


@torch.no_grad()
def test_no_run_looks_at_a_cell_behind_it(resumable: IncrementalPrior) -> None:
    codes = codes_of(CONFIG, 1, 3)
    _, kept = resumable.begin(codes)
    before = resumable.resume(kept, codes.flatten(1), torch.tensor([10]), 4)
    for each in (*kept.grids, *kept.keys, *kept.values):
        assert torch.isfinite(each).all()
    for keys, values in zip(kept.keys, kept.values, strict=True):
        keys[:, :, 14:], values[:, :, 14:] = 1e6, 1e6
    other = codes.flatten(1).clone()
    other[:, 13:] = 0
    torch.testing.assert_close(resumable.resume(kept, other, torch.tensor([10]), 4), before)
