"""Two workers on half of every batch each do what one does on the whole."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from tests.model.test_vqvae import CONFIG
from tests.training.test_networks import PRIOR, easy_maps, one_thread, vqvae_fitting
from vqad.model.pixelsnail import PixelSNAIL
from vqad.training import data_parallel
from vqad.training.category import Training
from vqad.training.loop import DivergenceError, FitOptions, Fitting
from vqad.training.networks import code_maps, fit_prior, fit_vqvae, prior_nats, vqvae_error
from vqad.training.options import TrainOptions
from vqad.training.presets import PRESETS, Preset

__all__ = ["one_thread"]

# 7 images are not the same number for both.
VQVAE = FitOptions(
    num_steps=12, batch_size=7, learning_rate=3e-3, num_warmup_steps=4, interval_steps=6
)
PRIOR_STEPS = FitOptions(num_steps=12, batch_size=7, learning_rate=3e-3, interval_steps=6)


def pixels() -> torch.Tensor:
    return torch.randint(256, (21, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()


def fitted() -> dict:
    """Weights, records and code maps of both fits; without dropout, which is drawn apart."""
    vqvae = vqvae_fitting(options=VQVAE)
    # No restarts: the first worker's latents alone are taken for them.
    vqvae.network.codebook.config = replace(CONFIG, restart_below=0.0)
    records = list(
        fit_vqvae(vqvae, pixels()[:16], pixels()[16:], kind="texture", options=VQVAE, seed=3)
    )
    maps = code_maps(vqvae.network, pixels(), kind="object", num_variations=3, seed=1)
    torch.manual_seed(0)
    prior = Fitting.begin(PixelSNAIL(replace(PRIOR, dropout=0.0)), PRIOR_STEPS)
    records += fit_prior(prior, easy_maps(64), easy_maps(5, 1), options=PRIOR_STEPS, seed=3)
    return {
        "vqvae": vqvae.network.state_dict(),
        "prior": prior.network.state_dict(),
        "maps": maps,
        "records": [(each.loss, each.held_out) for each in records],
        "held_out": [
            vqvae_error(vqvae.network, pixels()[:1]),
            prior_nats(prior.network, easy_maps(1, 2)),
        ],
    }


def ruined() -> str:
    """What a worker says when one's weights are no numbers."""
    fitting = vqvae_fitting(options=VQVAE)
    if data_parallel.rank() == 1:
        with torch.no_grad():
            fitting.network.encoder[0].weight.fill_(float("nan"))
    try:
        list(fit_vqvae(fitting, pixels(), pixels(), kind="object", options=VQVAE, seed=0))
    except DivergenceError as error:
        return str(error)
    return ""


def calibrated() -> float:
    """Held-out error of a detector that the first worker calibrates while the others go on."""
    PRESETS["tiny"] = Preset(vqvae=CONFIG, prior=PRIOR, fit_vqvae=VQVAE, fit_prior=PRIOR_STEPS)
    options = TrainOptions(category="pill", kind="object", preset="tiny", form="joined")
    names = [f"{number:02}.png" for number in range(20)]
    training = Training(names, pixels()[:20].numpy(), options)
    assert len(list(training.records())) == 4
    if data_parallel.rank() > 0:
        return training.held_out_error
    error = training.detector().settings.found.held_out_error
    assert error is not None
    return error


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    waits = timedelta(seconds=60)
    distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=2, timeout=waits
    )
    told = {"result": fitted(), "part": data_parallel.size_of_part(7), "ruined": ruined()}
    told["calibrated"] = calibrated()
    told["first_says"] = data_parallel.first_says(rank == 0, torch.device("cpu"))
    torch.save(told, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_both_workers_hold_the_same_weights_to_the_last_bit(both: list[dict]) -> None:
    one, other = (each["result"] for each in both)
    for stage in ("vqvae", "prior"):
        for name, tensor in one[stage].items():
            assert torch.equal(tensor, other[stage][name]), name
    assert one["records"] == other["records"]
    assert torch.equal(one["maps"], other["maps"])


def test_two_workers_fit_what_one_fits(both: list[dict]) -> None:
    alone, together = fitted(), both[0]["result"]
    for stage in ("vqvae", "prior"):
        for name, tensor in alone[stage].items():
            # Two centres of k-means that lie together share their points by the last bit.
            if name not in ("codebook.counts", "codebook.sums"):
                atol = 0.1 if name == "codebook.vectors" else 0.01
                torch.testing.assert_close(together[stage][name], tensor, rtol=0, atol=atol)
    for ours, theirs in zip(together["records"], alone["records"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert together["held_out"] == pytest.approx(alone["held_out"], rel=0.01)


def test_a_batch_is_shared_out_whole(both: list[dict]) -> None:
    assert [each["part"] for each in both] == [3, 4]


def test_what_ruins_one_worker_is_said_by_both(both: list[dict]) -> None:
    assert [each["ruined"] for each in both] == [
        "the loss is nan at step 0; try another --seed, or another --preset"
    ] * 2


def test_the_first_worker_calibrates_without_the_other(both: list[dict]) -> None:
    one, other = (each["calibrated"] for each in both)
    assert one == other > 0


def test_the_first_worker_decides(both: list[dict]) -> None:
    assert [each["first_says"] for each in both] == [True, True]


def test_alone_nothing_is_shared() -> None:
    assert (data_parallel.rank(), data_parallel.num_workers(), data_parallel.part_of(5)) == (
        0,
        1,
        slice(0, 5),
    )
    tensor = torch.ones(3)
    data_parallel.add_up(tensor)
    assert torch.equal(tensor, torch.ones(3))
