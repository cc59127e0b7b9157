"""What a second actor adds, and what Ray takes, where the networks are all the work: a campaign.

By hand, on a machine that does nothing else: `pytest -m slow -s tests/on_ray/test_actors.py`.
"""

import time

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from tests.on_ray.campaign import say
from tests.on_ray.conftest import ON_RAY
from vqad import bench
from vqad.on_ray import inspect, session
from vqad.on_ray.stages import DECODED, Inspector, InspectorOptions

pytestmark = [*ON_RAY, pytest.mark.slow, pytest.mark.timeout(1800)]
NUM_UNITS, UNIT_IMAGES = 24, 16


def units(size_px: int) -> list[pa.Table]:
    """Decoded images, a batch each: noise, of which no two are alike."""
    rng = np.random.default_rng(0)
    return [
        pa.Table.from_pylist(
            [
                {
                    "image": f"file:///{unit:03}/{number:03}.png",
                    "category": bench.RANDOM,
                    "source_etag": "",
                    "source_bytes": 0,
                    "part": "",
                    "pixels": rng.integers(0, 256, (size_px, size_px, 3), np.uint8).tobytes(),
                    "bits": 8,
                    "width_px": size_px,
                    "height_px": size_px,
                    "error": "",
                    "error_detail": "",
                }
                for number in range(UNIT_IMAGES)
            ],
            schema=DECODED,
        )
        for unit in range(NUM_UNITS)
    ]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> InspectorOptions:
    """A detector of random weights and the sizes of the preset laptop."""
    models = str(tmp_path_factory.mktemp("models"))
    detector = bench.random_detector("laptop")
    size_px = detector.settings.vqvae.image_size_px
    pictures = torch.rand(UNIT_IMAGES, 3, size_px, size_px)
    detector = bench.with_some_changes(detector, bench.encode(detector, pictures, UNIT_IMAGES))
    return InspectorOptions(
        models=models,
        versions={bench.RANDOM: detector.save(models)},
        run="",
        batch_size=UNIT_IMAGES,
        maps="all",
        num_threads=1,
    )


def rate_alone(options: InspectorOptions, some: list[pa.Table]) -> float:
    """Images a second of the same inspector in this process, without Ray."""
    inspector = Inspector(options)
    inspector.inspect(some[0])
    start_s = time.monotonic()
    for unit in some:
        inspector.inspect(unit)
    return len(some) * UNIT_IMAGES / (time.monotonic() - start_s)


def rate_on_ray(options: InspectorOptions, some: list[pa.Table], num_actors: int) -> float:
    """Images a second once every actor has given its first unit."""
    arrived_s = []
    inspected = ray.data.from_arrow([inspect._packed(unit) for unit in some]).map_batches(
        inspect._Inspector,
        fn_constructor_kwargs={"options": options},
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.6,
    )
    for rows in inspected.iter_batches(batch_size=None, batch_format="pyarrow"):
        arrived_s += [time.monotonic()] * len(rows)
    seconds = arrived_s[-1] - arrived_s[num_actors - 1]
    return (len(some) - num_actors) * UNIT_IMAGES / seconds


def test_two_actors_do_eight_tenths_of_twice_what_one_does(options: InspectorOptions) -> None:
    some = units(bench.random_detector("laptop").settings.vqvae.image_size_px)
    alone = rate_alone(options, some[: NUM_UNITS // 3])
    with session.connected():
        one, two = (rate_on_ray(options, some, number) for number in (1, 2))
    say(f"{alone:.2f} images/s without Ray, {one:.2f} by one actor, {two:.2f} by two")
    say(f"of one actor's time lost to Ray: {1 - one / alone:.1%}; two are {two / one:.2f} of one")
    assert two >= 0.8 * 2 * one
