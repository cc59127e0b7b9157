"""What a second actor adds, and what Ray takes, where the networks are all the work: a campaign.

By hand, on a machine that does nothing else: `pytest -m slow -s tests/campaigns/test_actors.py`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import torch

from tests.campaigns.campaign import say
from tests.support.finished_inspection import ON_RAY
from vqad.benchmarks import inspection
from vqad.inspection.inspector import InspectorOptions
from vqad.inspection.stages import DECODED
from vqad.on_ray import inspect, session
from vqad.on_ray import units as on_the_way

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
                    "category": inspection.RANDOM,
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
    detector = inspection.random_detector("laptop")
    size_px = detector.settings.vqvae.image_size_px
    pictures = torch.rand(UNIT_IMAGES, 3, size_px, size_px)
    detector = inspection.with_some_changes(
        detector, inspection.encode(detector, pictures, UNIT_IMAGES)
    )
    return InspectorOptions(
        models=models,
        versions={inspection.RANDOM: detector.save(models)},
        run="",
        batch_size=UNIT_IMAGES,
        maps="all",
        num_threads=1,
    )


def inspected(options: InspectorOptions, num_actors: int) -> tuple[float, float]:
    """Images a second once every actor has done its first unit; share of time that none works."""
    ended_s, busy_s = [], []
    some = units(inspection.random_detector("laptop").settings.vqvae.image_size_px)
    packed = ray.data.from_arrow([on_the_way.pack(unit) for unit in some]).map_batches(
        inspect._Inspector,
        fn_constructor_kwargs={"options": options},
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.6,
    )
    for rows in packed.iter_batches(batch_size=None, batch_format="pyarrow"):
        for unit in on_the_way.unpack(rows):
            # By the actor's own clock, whenever it arrives here.
            ended_s.append(pc.max(unit["inspected_at"]).as_py().timestamp())
            busy_s.append(pc.sum(unit["inspect_seconds"]).as_py())
    assert len(ended_s) == NUM_UNITS
    order = np.argsort(ended_s)
    span_s = ended_s[order[-1]] - ended_s[order[num_actors - 1]]
    later_s = sum(busy_s[at] for at in order[num_actors:])
    rate = (NUM_UNITS - num_actors) * UNIT_IMAGES / span_s
    return rate, 1 - later_s / (num_actors * span_s)


def test_two_actors_do_eight_tenths_of_twice_what_one_does(options: InspectorOptions) -> None:
    with session.connected():
        (one, one_lost), (two, two_lost) = (inspected(options, number) for number in (1, 2))
    say(f"{one:.2f} images/s by one actor, {two:.2f} by two, {two / one / 2:.2f} of twice as much")
    say(f"time that no inspection takes: {one_lost:.1%} of one actor's, {two_lost:.1%} of two")
    assert two >= 0.8 * 2 * one
