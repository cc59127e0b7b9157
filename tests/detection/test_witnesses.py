"""Three witnesses of one defect: each standardised on normal images, joined by fixed weights."""

import numpy as np
import pytest

from vqad.detection.surprisal import unknown
from vqad.detection.witnesses import (
    DIFFERENCE,
    LOCAL,
    SEGMENTER,
    SURPRISAL,
    WEIGHTS,
    Witness,
    fields_of,
    join_fields,
    measure_witness,
    on_grid,
    shares,
    weights,
)


def noise(num: int = 20, *, seed: int = 0, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list((scale * rng.normal(3, 1, (num, 16, 16))).astype(np.float32))


def measured() -> list[Witness]:
    return [
        measure_witness(name, noise(seed=at), weight=weight)
        for at, (name, weight) in enumerate(WEIGHTS.items())
    ]


def test_a_usual_largest_value_of_a_normal_image_becomes_one() -> None:
    for scale in (10.0, 50.0):
        witness = measure_witness(DIFFERENCE, noise(scale=scale), weight=0.25)
        largest = [witness.standardised(each).max() for each in noise(scale=scale)]
        assert np.median(largest) == pytest.approx(1, abs=0.01)


def test_a_witness_that_never_spoke_on_normal_images_does_not_divide_by_zero() -> None:
    witness = measure_witness(DIFFERENCE, [np.zeros((16, 16), np.float32)] * 3, weight=0.25)
    assert (witness.mean, witness.deviation, witness.largest) == (0, 8, 1)


@pytest.mark.parametrize(("with_segmenter", "first"), [(False, LOCAL), (True, SEGMENTER)])
def test_the_weights_add_up_and_the_best_witness_has_the_most(
    with_segmenter: bool, first: str
) -> None:
    of = weights(with_segmenter=with_segmenter)
    assert sum(of.values()) == pytest.approx(1)
    assert max(of, key=lambda name: of[name]) == first
    assert (SEGMENTER in of) == with_segmenter


def test_the_share_names_the_witness_that_saw_the_defect() -> None:
    witnesses = measured()
    fields = dict(zip(WEIGHTS, noise(3, seed=9), strict=True))
    fields[SURPRISAL] = fields[SURPRISAL].copy()
    fields[SURPRISAL][4, 5] += 100
    found = shares(fields, witnesses)
    assert max(found, key=lambda name: found[name]) == SURPRISAL
    assert sum(found.values()) == pytest.approx(1)
    joined = join_fields(fields, witnesses)
    assert np.unravel_index(joined.argmax(), joined.shape) == (4, 5)


def test_where_nothing_is_unusual_no_witness_has_a_share() -> None:
    witnesses = measured()
    low = {name: np.full((16, 16), -50, np.float32) for name in WEIGHTS}
    assert set(shares(low, witnesses).values()) == {0.0}


@pytest.mark.parametrize("size", [64, 16, 4])
def test_every_map_becomes_a_field_of_the_grid(size: int) -> None:
    field = on_grid(np.full((size, size), 2, np.float32), 16)
    assert field.shape == (16, 16)
    assert field == pytest.approx(2)


def test_surprisal_and_difference_lie_on_the_grid_of_local_statistics() -> None:
    (fields,) = fields_of(
        [{LOCAL: np.zeros((16, 16), np.float32)}],
        [np.full((2, 4, 4), 3, np.float32)],
        [np.full((32, 32), 7, np.float32)],
        unknown(4),
    )
    assert set(fields) == set(WEIGHTS)
    assert fields[SURPRISAL] == pytest.approx(3, abs=1e-5)
    assert fields[DIFFERENCE] == pytest.approx(7)


@pytest.mark.parametrize("broken", [{"weight": 0.0}, {"deviation": 0.0}, {"mean": float("nan")}])
def test_a_witness_that_no_field_can_be_made_with_is_refused(broken: dict[str, float]) -> None:
    values = {"weight": 0.5, "mean": 0.0, "deviation": 1.0, "largest": 1.0, **broken}
    with pytest.raises(ValueError, match="of surprisal must be"):
        Witness(name=SURPRISAL, **values)
