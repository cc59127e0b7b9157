"""One step of a fit: of all workers together, or of one worker alone."""

import pytest
import torch
from torch import Tensor, nn

from vqad.training import data_parallel
from vqad.training.loop import DivergenceError, FitOptions, Fitting, descend, descend_alone

OPTIONS = FitOptions(num_steps=10, batch_size=4)


def fitting() -> Fitting:
    torch.manual_seed(0)
    return Fitting.begin(nn.Conv2d(2, 1, 1), OPTIONS)


def loss_of(one: Fitting) -> Tensor:
    found: Tensor = one.network(torch.ones(4, 2, 3, 3)).square().mean()
    return found


def test_a_step_alone_is_that_of_a_single_worker_and_asks_no_other_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, alone = fitting(), fitting()
    descend(shared, loss_of(shared), OPTIONS)
    monkeypatch.setattr(data_parallel, "add_up_gradients", None)  # a call of it would fail
    descend_alone(alone, loss_of(alone), OPTIONS, name="loss")
    for one, other in zip(shared.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_no_number_changes_no_weight_and_is_named() -> None:
    one = fitting()
    one.step = 3
    before = [each.clone() for each in one.network.parameters()]
    expected = "the loss of the segmenter is nan at step 3; try another --seed, or another --preset"
    with pytest.raises(DivergenceError, match=expected):
        descend_alone(one, loss_of(one) * torch.nan, OPTIONS, name="loss of the segmenter")
    for weights, same in zip(before, one.network.parameters(), strict=True):
        assert torch.equal(weights, same)
