"""The segmenter: painted defects, its fit, its field, and the files it is kept in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.training.test_networks import drawn_pixels
from vqad.detection.local_residuals import num_channels
from vqad.detection.segmented import local_fields, segmented
from vqad.detection.weights import DetectorError, load_weights, record_of, weights_of
from vqad.detection.witnesses import LOCAL, SEGMENTER
from vqad.model.segmenter import Segmenter, SegmenterConfig
from vqad.training import segmenter
from vqad.training.local_statistics import FittedStatistics, fit_statistics
from vqad.training.loop import FitOptions
from vqad.training.segmenter import FittedSegmenter, SegmenterOptions, fit_segmenter

SMALL = SegmenterOptions(
    num_painted=32, fit=FitOptions(num_steps=40, batch_size=8, learning_rate=3e-3)
)
PIXELS = drawn_pixels(24)
LEARNED = np.arange(3, 24)


@pytest.fixture(scope="module")
def local() -> FittedStatistics:
    return fit_statistics(PIXELS, groups=[str(at) for at in range(len(PIXELS))], seed=0)


@pytest.fixture(scope="module")
def found(local: FittedStatistics) -> FittedSegmenter:
    return fit_segmenter(local, PIXELS, LEARNED, SMALL, seed=0)


@pytest.fixture(scope="module")
def fitted(found: FittedSegmenter) -> Segmenter:
    return found.segmenter


def with_a_red_square(num: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Pictures, and the places of the square on a grid of half as many places."""
    pictures = drawn_pixels(num)[:num].astype(np.float32) / 255
    side = pictures.shape[1]
    box = slice(side // 4, side // 2), slice(side // 4, side // 2)
    pictures[:, *box] = (1, 0, 0)
    return pictures, (slice(side // 8, side // 4), slice(side // 8, side // 4))


def as_images(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).movedim(-1, 1)


def test_a_defect_raises_its_field_where_it_is(
    local: FittedStatistics, found: FittedSegmenter
) -> None:
    pictures, places = with_a_red_square(4)
    for fields in local_fields(local.statistics, found.segmenter, as_images(pictures)):
        inside = fields[SEGMENTER][places].mean()
        outside = np.delete(fields[SEGMENTER], np.r_[places[0]], axis=0).mean()
        assert inside > outside + 1
    assert inside > np.stack(found.fields).max()


def test_an_image_is_measured_by_a_segmenter_that_did_not_learn_from_it(
    local: FittedStatistics, found: FittedSegmenter
) -> None:
    assert len(found.fields) == len(PIXELS)
    for fold in local.folds:
        for at in fold.own:
            residuals = fold.others.residuals(
                local.features[at, None], local.distances[:, at, None]
            )
            by_the_last = segmented(found.segmenter, residuals)[0]
            same = np.array_equal(by_the_last, found.fields[at])
            assert same == (at not in LEARNED)


def test_a_third_of_the_folds_shares_a_segmenter_that_was_fitted_to_the_other_two(
    local: FittedStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted_to = []

    def fake(examples: segmenter.Examples, *_: object, **__: object) -> Segmenter:
        fitted_to.append({each.numpy().tobytes() for each in examples.residuals})
        return Segmenter(SegmenterConfig(num_channels=examples.residuals.shape[1]))

    monkeypatch.setattr(segmenter, "_fitted", fake)
    by_fold = fit_segmenter(local, PIXELS, LEARNED, SMALL, seed=0).by_fold
    everything, *others = fitted_to
    assert len(local.folds) == len(by_fold) == 9
    for part in range(3):
        assert by_fold[part] is by_fold[part + 3] is by_fold[part + 6]
        assert others[part] < everything
    # What one of them was not fitted to, both others were.
    left_out = [everything - some for some in others]
    assert set.union(*left_out) == everything
    assert sum(map(len, left_out)) == len(everything)


def test_the_field_of_local_statistics_is_what_it_was_without(
    local: FittedStatistics, fitted: Segmenter
) -> None:
    pictures, _ = with_a_red_square(2)
    alone = local_fields(local.statistics, None, as_images(pictures))
    both = local_fields(local.statistics, fitted, as_images(pictures))
    assert [set(each) for each in alone] == [{LOCAL}] * 2
    for one, other, inspected in zip(alone, both, local.statistics.inspect(pictures), strict=True):
        np.testing.assert_array_equal(one[LOCAL], other[LOCAL])
        np.testing.assert_array_equal(one[LOCAL], inspected)


def test_the_same_seed_gives_the_same_segmenter_and_leaves_the_global_one_alone(
    local: FittedStatistics, fitted: Segmenter
) -> None:
    before = torch.get_rng_state()
    again = fit_segmenter(local, PIXELS, LEARNED, SMALL, seed=0).segmenter
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, fitted.state_dict()[name])
    other = fit_segmenter(local, PIXELS, LEARNED, SMALL, seed=1).segmenter
    assert not torch.equal(other.output.weight, fitted.output.weight)


def test_it_does_not_learn_from_held_out_images(local: FittedStatistics, fitted: Segmenter) -> None:
    changed = PIXELS.copy()
    changed[:3] = 0  # as if they had been others when the defects were painted
    again = fit_segmenter(local, changed, LEARNED, SMALL, seed=0).segmenter
    assert torch.equal(again.output.weight, fitted.output.weight)


def test_saved_and_loaded_it_gives_equal_bits(
    local: FittedStatistics, fitted: Segmenter, tmp_path: Path
) -> None:
    data = weights_of(fitted)
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in load(data).values())
    path = tmp_path / "segmenter.safetensors"
    path.write_bytes(data)
    again = Segmenter(fitted.config).eval()
    load_weights(again, str(path), record_of(data))
    pictures, _ = with_a_red_square(3)
    one, other = (
        local_fields(local.statistics, each, as_images(pictures)) for each in (fitted, again)
    )
    for this, that in zip(one, other, strict=True):
        np.testing.assert_array_equal(this[SEGMENTER], that[SEGMENTER])
    with pytest.raises(DetectorError, match="does not match its recorded hash"):
        load_weights(again, str(path), {**record_of(data), "bytes": 1})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_channels": 0}, "num_channels must be from 1 to 256, got 0"),
        ({"num_channels": 78, "width": 10**6}, "width must be from 1 to 256, got 1000000"),
    ],
)
def test_sizes_have_bounds(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmenterConfig(**sizes)


def test_the_largest_segmenter_is_small() -> None:
    with torch.device("meta"):
        state = Segmenter(SegmenterConfig(num_channels=256, width=256)).state_dict()
    assert sum(each.nbytes for each in state.values()) < 9e6


def test_a_residual_has_the_channels_that_are_announced(local: FittedStatistics) -> None:
    statistics = local.statistics
    found = local.features[:2]
    residuals = statistics.residuals(found, statistics.distances(found))
    grid = statistics.config.features.grid
    assert residuals.shape == (2, num_channels(statistics.config.features), grid, grid)
    assert torch.isfinite(residuals).all()
