"""Three algorithms, one answer; and the answer is eq. 5."""

import pytest
import torch

from tests.model.test_pixelsnail import codes_of, prior_of
from vqad.model.incremental_prior import IncrementalPrior
from vqad.model.pixelsnail import PixelSNAILConfig
from vqad.model.resample import ResampleOptions, decide, in_runs, likelihood_of, may_change
from vqad.model.resample_reference import agreement, close_calls, fixed_point, jump, raster

CONFIG = PixelSNAILConfig(num_codes=9, latent_size=6, width=12, num_stages=2, num_heads=2)


def sharp_prior(seed: int):
    """A random prior with strong opinions, so that many cells change and changes have effects."""
    prior = prior_of(CONFIG, seed)
    with torch.no_grad():
        prior.output[-1].weight.mul_(60)
        prior.embedding.weight.mul_(3)
    return prior


@pytest.mark.parametrize("local_constraint", [True, False])
@pytest.mark.parametrize("eta", [1e-3, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_all_algorithms_give_the_codes_of_the_oracle(
    seed: int, eta: float, local_constraint: bool
) -> None:
    prior, codes = sharp_prior(seed), codes_of(CONFIG, 6, seed)
    options = ResampleOptions(eta=eta, local_constraint=local_constraint)
    oracle = raster(prior, codes, options)
    for algorithm in (jump, fixed_point):
        found = algorithm(prior, codes, options)
        assert torch.equal(found.codes, oracle.codes), algorithm.__name__
        torch.testing.assert_close(found.likelihood, oracle.likelihood)
    for width in (1, 5, 6, 50):
        found = in_runs(IncrementalPrior(prior), codes, options, width=width)
        assert torch.equal(found.codes, oracle.codes), width
        torch.testing.assert_close(found.likelihood, oracle.likelihood)


def test_runs_cost_one_pass_without_a_change_and_few_cells_with_one() -> None:
    prior, codes = sharp_prior(0), codes_of(CONFIG, 6, 0)
    options = ResampleOptions(eta=0.02)
    changed = (raster(prior, codes, options).codes != codes).flatten(1).any(1)
    assert changed.any()
    untouched = in_runs(IncrementalPrior(prior), codes, ResampleOptions(eta=0.0))
    assert untouched.passes.tolist() == [1.0] * 6
    assert torch.equal(untouched.codes, codes)
    by_cell = in_runs(IncrementalPrior(prior), codes, options, width=1).passes
    assert (by_cell[changed] <= 2).all()
    assert (by_cell[~changed] == 1).all()


def test_runs_compute_nothing_behind_the_last_cell_that_may_change() -> None:
    class Watched(IncrementalPrior):
        furthest = 0

        def resume(self, kept, codes, start, width):
            self.furthest = max(self.furthest, int((start + width).max()))
            return super().resume(kept, codes, start, width)

    prior, codes = sharp_prior(0), codes_of(CONFIG, 1, 0)
    options = ResampleOptions(eta=0.02)
    allowed = may_change(likelihood_of(prior(codes), codes), options).flatten().nonzero()
    watched = Watched(prior)
    in_runs(watched, codes, options, width=4)
    assert 0 < watched.furthest <= int(allowed.max()) + 1


def test_the_random_priors_do_change_codes_and_change_them_differently() -> None:
    changed = []
    for seed in range(5):
        codes = codes_of(CONFIG, 6, seed)
        found = raster(sharp_prior(seed), codes, ResampleOptions(eta=0.02))
        changed.append(int((found.codes != codes).sum()))
    assert min(changed) > 10
    assert len(set(changed)) > 1


def test_the_oracle_follows_the_definition_cell_by_cell() -> None:
    prior, inputs = sharp_prior(3), codes_of(CONFIG, 2, 3)
    options = ResampleOptions(eta=0.05)
    found = raster(prior, inputs, options).codes
    first = likelihood_of(prior(inputs), inputs)
    under_result = likelihood_of(prior(found), inputs)
    best = prior(found).argmax(1)
    size = CONFIG.latent_size
    for image in range(2):
        for row in range(size):
            for col in range(size):
                places = [(row, col + 1), *((row + 1, col + side) for side in (-1, 0, 1))]
                near = [first[image, r, c] for r, c in places if r < size and 0 <= c < size]
                replaced = bool(near) and min(near) < 0.05 and under_result[image, row, col] < 0.05
                expected = best if replaced else inputs
                assert found[image, row, col] == expected[image, row, col]


def test_testing_the_current_code_in_place_of_the_input_code_would_be_noticed() -> None:
    differs = 0
    for seed in range(8):
        prior, inputs = sharp_prior(seed), codes_of(CONFIG, 4, seed)
        options = ResampleOptions(eta=0.05)
        allowed = may_change(likelihood_of(prior(inputs), inputs), options)
        wrong = inputs
        for _ in range(40):
            wrong = decide(prior(wrong), wrong, allowed, options)
        differs += int(not torch.equal(wrong, raster(prior, inputs, options).codes))
    assert differs > 0


def test_the_local_constraint_asks_the_neighbours_still_to_come() -> None:
    likelihood = torch.ones(1, 3, 3)
    likelihood[0, 1, 1] = 0
    expected = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert torch.equal(may_change(likelihood, ResampleOptions(eta=0.5))[0], expected)


def test_the_last_cell_is_never_replaced_under_the_local_constraint() -> None:
    everything_is_improbable = torch.zeros(2, 4, 4)
    allowed = may_change(everything_is_improbable, ResampleOptions(eta=0.5))
    assert not allowed[:, -1, -1].any()
    assert allowed.flatten(1)[:, :-1].all()


def test_where_nothing_is_improbable_nothing_changes_and_one_pass_does() -> None:
    prior, codes = sharp_prior(0), codes_of(CONFIG, 3)
    for algorithm in (jump, fixed_point):
        found = algorithm(prior, codes, ResampleOptions(eta=0.0))
        assert torch.equal(found.codes, codes)
        assert found.passes.tolist() == [1.0, 1.0, 1.0]


def test_jump_takes_a_pass_and_one_more_for_every_changed_cell() -> None:
    prior, codes = sharp_prior(1), codes_of(CONFIG, 4, 1)
    found = jump(prior, codes, ResampleOptions(eta=0.02))
    changed = (found.codes != codes).flatten(1).sum(1)
    assert changed.max() > 1
    assert torch.equal(found.passes, changed + 1.0)


def test_a_map_is_resampled_alike_alone_and_among_others() -> None:
    prior, codes = sharp_prior(2), codes_of(CONFIG, 5, 2)
    options = ResampleOptions(eta=0.02)
    together = fixed_point(prior, codes, options).codes
    alone = torch.cat([fixed_point(prior, each[None], options).codes for each in codes])
    assert torch.equal(together, alone)


def test_resampling_leaves_its_input_alone() -> None:
    prior, codes = sharp_prior(4), codes_of(CONFIG, 3, 4)
    before = codes.clone()
    for algorithm in (raster, jump, fixed_point):
        assert not torch.equal(algorithm(prior, codes, ResampleOptions(eta=0.1)).codes, before)
        assert torch.equal(codes, before)


def test_agreement_excuses_a_first_difference_only_where_float32_cannot_settle() -> None:
    prior, codes = sharp_prior(1), codes_of(CONFIG, 3, 1)
    options = ResampleOptions(eta=0.02)
    oracle = raster(prior, codes, options).codes
    other = oracle.clone()
    other[0, 2, 2] = (other[0, 2, 2] + 1) % CONFIG.num_codes
    assert agreement(prior, codes, oracle, oracle, options) == (3, 0, 0)
    assert agreement(prior, codes, oracle, other, options) == (2, 0, 1)
    # The same difference, with eta moved onto the likelihood of that very cell.
    at = likelihood_of(prior(oracle), codes)[0, 2, 2].item()
    assert agreement(prior, codes, oracle, other, ResampleOptions(eta=at)) == (2, 1, 0)


def test_two_best_codes_alike_are_a_close_call() -> None:
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 0, 0, 1] = 5.0
    codes = torch.zeros(1, 1, 2, dtype=torch.int64)
    assert close_calls(logits, codes, ResampleOptions(eta=1e-3)).tolist() == [[[True, False]]]


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_logit_that_is_not_finite_never_makes_a_code_merely_improbable(broken: float) -> None:
    logits = torch.zeros(2, 3, 1, 2)
    logits[1, 2, 0, 1] = broken
    likelihood = likelihood_of(logits, torch.zeros(2, 1, 2, dtype=torch.int64))
    assert likelihood.isnan().tolist() == [[[False, False]], [[False, True]]]


def test_likelihoods_are_those_of_a_softmax_wherever_the_codes_of_a_cell_lie() -> None:
    torch.manual_seed(0)
    logits, codes = torch.randn(3, 9, 40, 30) * 10, torch.randint(9, (3, 40, 30))
    expected = logits.softmax(1).gather(1, codes[:, None])[:, 0]
    for each in (logits, logits.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(likelihood_of(each, codes), expected)


def test_an_eta_that_is_no_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\), got 1.5"):
        ResampleOptions(eta=1.5)
