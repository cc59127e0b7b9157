"""Fitting lowers the loss, survives being stopped, and says so when it goes wrong."""

import io
import math
import re
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.test_pixelsnail import codes_of
from tests.model.test_vqvae import CONFIG, GRADIENT, model_of
from vqad.images.decoding import to_unit
from vqad.images.tensors import to_images, to_tensor
from vqad.model.pixelsnail import PixelSNAIL, PixelSNAILConfig
from vqad.model.vqvae import VQVAE, VQVAEConfig
from vqad.synthetic import draw
from vqad.training.loop import CollapseError, DivergenceError, FitOptions, Fitting, Record, pace
from vqad.training.networks import (
    code_maps,
    codes_in_use,
    encode,
    fit_prior,
    fit_vqvae,
    prior_nats,
    vqvae_error,
)

PRIOR = PixelSNAILConfig(num_codes=16, latent_size=4, width=8, num_stages=1, num_heads=2)
VQVAE_BUDGET = FitOptions(
    num_steps=40, batch_size=8, learning_rate=3e-3, num_warmup_steps=4, interval_steps=10
)
PRIOR_BUDGET = FitOptions(num_steps=40, batch_size=8, learning_rate=3e-3, interval_steps=10)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads differ in their last bits from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn_pixels(num: int, seed: int = 0) -> np.ndarray:
    """Drawn pictures (num, 16, 16, 3), uint8."""
    rng = np.random.default_rng(seed)
    pictures = [draw("washer", size_px=32, rng=rng) for _ in range(num)]
    return np.stack([cv2.resize(each, (16, 16), interpolation=cv2.INTER_AREA) for each in pictures])


def vqvae_fitting(config: VQVAEConfig = CONFIG, options: FitOptions = VQVAE_BUDGET) -> Fitting:
    return Fitting.begin(model_of(config), options)


def started_model() -> VQVAE:
    """A model whose codes tell pictures apart, though nothing is fitted."""
    model = model_of(CONFIG)
    with torch.no_grad():
        latents = model.encoder(to_images(torch.from_numpy(drawn_pixels(20))) * 2 - 1)
    model.codebook.start(latents, torch.Generator().manual_seed(0))
    return model


def prior_fitting(options: FitOptions = PRIOR_BUDGET) -> Fitting:
    torch.manual_seed(0)
    return Fitting.begin(PixelSNAIL(PRIOR), options)


def vqvae_records(fitting: Fitting, options: FitOptions = VQVAE_BUDGET) -> Iterator[Record]:
    pixels = torch.from_numpy(drawn_pixels(20))
    return fit_vqvae(
        fitting, pixels[:16], pixels[16:], kind="rotatable_object", options=options, seed=3
    )


def easy_maps(num: int, seed: int = 0) -> Tensor:
    """Maps whose every row repeats one code, so that there is something to learn."""
    return codes_of(PRIOR, num, seed)[:, :, :1].expand(-1, -1, 4).contiguous()


def prior_records(fitting: Fitting, options: FitOptions = PRIOR_BUDGET) -> Iterator[Record]:
    return fit_prior(fitting, easy_maps(256), easy_maps(8, 1), options=options, seed=3)


def stored_and_loaded(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_equal_weights(one: Fitting, other: Fitting) -> None:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("config", [CONFIG, GRADIENT], ids=lambda config: config.codebook)
def test_a_few_steps_lower_the_loss_and_error_on_drawn_pictures(config: VQVAEConfig) -> None:
    options = FitOptions(
        num_steps=150, batch_size=8, learning_rate=1e-2, num_warmup_steps=20, interval_steps=40
    )
    fitting = vqvae_fitting(config, options)
    held_out = torch.from_numpy(drawn_pixels(20))[16:]
    before = vqvae_error(fitting.network, held_out)
    records = list(vqvae_records(fitting, options))
    assert [record.step for record in records] == [40, 80, 120, 150]
    assert records[-1].loss < 0.7 * records[0].loss
    assert records[-1].held_out < 0.7 * before
    assert records[-1].held_out == vqvae_error(fitting.network, held_out)
    assert 1 <= records[-1].perplexity <= records[-1].codes_used <= 16


def test_the_codebook_starts_when_the_warm_up_ends_and_not_before() -> None:
    fitting = vqvae_fitting()
    before = fitting.network.codebook.vectors.clone()
    options = FitOptions(
        num_steps=12, batch_size=8, learning_rate=3e-3, num_warmup_steps=4, interval_steps=4
    )
    records = vqvae_records(fitting, options)
    first = next(records)
    assert (first.codes_used, first.perplexity) == (0, 0.0)
    assert torch.equal(fitting.network.codebook.vectors, before)
    second = next(records)
    assert second.codes_used > 0
    assert not torch.isclose(fitting.network.codebook.vectors, before).all(1).any()


def test_the_prior_learns_what_is_easy() -> None:
    options = FitOptions(num_steps=150, batch_size=8, learning_rate=1e-2, interval_steps=50)
    records = list(prior_records(prior_fitting(options), options))
    assert records[-1].loss < records[0].loss
    assert records[-1].held_out < 2.3 < math.log(16)
    assert records[-1].as_dict()["stage"] == "prior"


@pytest.mark.parametrize("num_records", [1, 3])
@pytest.mark.parametrize("stage", ["vqvae", "vqvae_gradient", "prior"])
def test_stopped_after_a_record_and_taken_up_again_it_ends_with_the_same_weights(
    stage: str, num_records: int
) -> None:
    begin, go = {
        "vqvae": (vqvae_fitting, vqvae_records),
        "vqvae_gradient": (lambda: vqvae_fitting(GRADIENT), vqvae_records),
        "prior": (prior_fitting, prior_records),
    }[stage]
    undisturbed = begin()
    expected = list(go(undisturbed))
    stopped = begin()
    records = go(stopped)
    for _ in range(num_records):
        next(records)
    state = stored_and_loaded(stopped.state())
    again = begin()
    # Fresh objects start elsewhere, and what happened in between does not count.
    for tensor in again.network.state_dict().values():
        tensor.fill_(0.5)
    torch.manual_seed(99)
    again.load(state)
    found = list(go(again))
    assert_equal_weights(again, undisturbed)
    assert again.best == undisturbed.best
    assert [(record.step, record.loss, record.held_out) for record in found] == [
        (record.step, record.loss, record.held_out) for record in expected[num_records:]
    ]


def test_taken_up_after_its_end_it_has_nothing_to_do_and_its_best_weights() -> None:
    fitting = prior_fitting()
    last = list(prior_records(fitting))[-1]
    again = prior_fitting()
    again.load(stored_and_loaded(fitting.state()))
    assert last.step == PRIOR_BUDGET.num_steps
    assert list(prior_records(again)) == []
    assert_equal_weights(again, fitting)


def test_fitting_follows_from_the_seed() -> None:
    one, same, other = (vqvae_fitting() for _ in range(3))
    pixels = torch.from_numpy(drawn_pixels(20))
    for fitting, seed in ((one, 3), (same, 3), (other, 4)):
        list(fit_vqvae(fitting, pixels, pixels, kind="texture", options=VQVAE_BUDGET, seed=seed))
    assert_equal_weights(one, same)
    weights = [fitting.network.encoder[0].weight for fitting in (one, other)]
    assert not torch.equal(*weights)


def test_the_prior_ends_with_its_best_weights_and_not_with_its_last() -> None:
    options = FitOptions(num_steps=60, batch_size=8, learning_rate=0.05, interval_steps=5)
    fitting = prior_fitting(options)
    # Four maps are over-fit at once, so the held-out likelihood turns back soon.
    held_out = codes_of(PRIOR, 8, 7)
    last = {}
    records = []
    for record in fit_prior(fitting, codes_of(PRIOR, 4), held_out, options=options, seed=0):
        records.append(record)
        last = {name: each.clone() for name, each in fitting.network.state_dict().items()}
    nats = prior_nats(fitting.network, held_out)
    assert nats == fitting.best == records[-1].held_out
    best = {name: each.clone() for name, each in fitting.network.state_dict().items()}
    fitting.network.load_state_dict(last)
    assert prior_nats(fitting.network, held_out) > nats + 0.1
    assert not torch.equal(best["embedding.weight"], last["embedding.weight"])


def test_the_prior_stops_when_patience_is_out() -> None:
    options = FitOptions(
        num_steps=500, batch_size=8, learning_rate=0.05, interval_steps=5, patience=3
    )
    fitting = prior_fitting(options)
    maps, held_out = codes_of(PRIOR, 4), codes_of(PRIOR, 8, 7)
    records = list(fit_prior(fitting, maps, held_out, options=options, seed=0))
    assert records[-1].step < 500
    assert fitting.num_since_best == 3
    assert len({record.held_out for record in records[-4:]}) == 1


def test_a_loss_that_is_no_number_is_a_divergence() -> None:
    fitting = vqvae_fitting()
    with torch.no_grad():
        fitting.network.decoder[0].weight[0, 0, 0, 0] = math.nan
    with pytest.raises(DivergenceError, match="the loss is nan at step 0; try another --seed"):
        next(vqvae_records(fitting))


@pytest.mark.parametrize(
    ("fitting", "records", "name"),
    [
        (vqvae_fitting, vqvae_records, "held-out error"),
        (prior_fitting, prior_records, "held-out likelihood"),
    ],
)
def test_weights_that_the_last_step_ruined_are_a_divergence(fitting, records, name: str) -> None:
    options = FitOptions(num_steps=1, batch_size=8)
    ruined = fitting(options=options)
    for parameter in ruined.network.parameters():
        parameter.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(DivergenceError, match=f"the {name} is nan at step 1; try another --seed"):
        list(records(ruined, options))


def test_a_collapsed_codebook_is_refused_with_its_counts() -> None:
    maps = torch.zeros(5, 4, 4, dtype=torch.int64)
    message = "the codebook collapsed: 1 of 64 codes in use over 5 maps; try another --seed"
    with pytest.raises(CollapseError, match=message):
        codes_in_use(maps, 64)


def test_a_sixteenth_of_the_codebook_is_enough() -> None:
    maps = torch.arange(4).repeat(4).view(1, 4, 4)
    assert codes_in_use(maps, 64) == 4
    with pytest.raises(CollapseError, match="4 of 65 codes in use"):
        codes_in_use(maps, 65)


def test_the_pace_rises_to_its_height_and_falls_to_a_twentieth() -> None:
    options = FitOptions(num_steps=200, batch_size=1, num_rise_steps=20)
    paces = [pace(step, options) for step in range(200)]
    highest = paces.index(max(paces))
    assert paces[0] == pytest.approx(1 / 20)
    assert 18 <= highest <= 20
    assert 0.97 < max(paces) <= 1
    assert all(paces[step] < paces[step + 1] for step in range(highest))
    assert all(paces[step] > paces[step + 1] for step in range(highest, 199))
    assert paces[-1] == pytest.approx(0.05, abs=1e-3)


def test_the_optimizer_runs_at_the_pace() -> None:
    fitting = vqvae_fitting()
    records = vqvae_records(fitting)
    next(records)
    rate = fitting.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(3e-3 * pace(9, VQVAE_BUDGET))


def test_8_and_16_bit_pixels_become_the_same_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3)).astype(np.uint8)
    pixels[0, 0, 0, :2] = 0, 255
    wide = pixels * np.uint16(257)
    eight, sixteen = to_tensor(pixels), to_tensor(wide)
    assert (eight.dtype, sixteen.dtype) == (torch.uint8, torch.int32)
    torch.testing.assert_close(to_images(eight), to_images(sixteen))
    images = to_images(sixteen)
    assert (images.shape, images.amin(), images.amax()) == ((2, 3, 3, 5), 0, 1)
    for tensor, array in ((eight, pixels), (sixteen, wide)):
        expected = torch.from_numpy(np.moveaxis(to_unit(array), -1, 1).copy())
        torch.testing.assert_close(to_images(tensor), expected, atol=1e-7, rtol=0)


def test_a_rotatable_object_has_no_more_than_eight_code_maps() -> None:
    model, pixels = started_model(), torch.from_numpy(drawn_pixels(3))
    maps = code_maps(model, pixels, kind="rotatable_object", num_variations=20, seed=0)
    assert maps.shape == (24, 4, 4)
    # The first of them is the picture as it is.
    assert torch.equal(maps[:3], encode(model, pixels))
    assert code_maps(model, pixels, kind="object", num_variations=20, seed=0).shape == (60, 4, 4)


def test_code_maps_follow_from_the_seed_and_differ_from_variation_to_variation() -> None:
    model, pixels = started_model(), torch.from_numpy(drawn_pixels(18))
    one, same, other = (
        code_maps(model, pixels, kind="texture", num_variations=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[:18], one[18:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"learning_rate": 1.0}, "learning_rate must be in (0, 1), got 1.0"),
        ({"num_warmup_steps": 10}, "num_warmup_steps must be in [0, 10), got 10"),
        ({"patience": -1}, "patience must not be negative, got -1"),
    ],
)
def test_budgets_that_fit_nothing_are_refused_by_name_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FitOptions(**{"num_steps": 10, "batch_size": 1, **change})
