"""Large nights: memory that stays, what is done stays done, actors that add up. Campaigns.

By hand, on a machine that does nothing else, each prints what it found:
`pytest -m slow -s tests/campaigns/test_large.py`. The nights that are killed are `campaign`'s.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.campaigns import campaign
from tests.campaigns.campaign import say
from tests.support.finished_inspection import ON_RAY
from tests.support.processes import pss_bytes
from tests.support.s3_server import S3Server, s3server
from vqad.images import listing
from vqad.storage import files, s3
from vqad.training.presets import PRESETS

pytestmark = [*ON_RAY, pytest.mark.slow, pytest.mark.timeout(3600)]
MIB = 2**20


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A store of the test's own: what it stores is gone after it."""
    with s3server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def night(name: str, folder: Path, num_images: int) -> campaign.Night:
    """For detectors of the preset tiny, of random weights."""
    tiny = PRESETS["tiny"]
    return campaign.night(
        name, folder / name, num_images, vqvae_config=tiny.vqvae, prior_config=tiny.prior
    )


def peak_bytes(process: subprocess.Popen[str]) -> int:
    """Most memory of a run and all below it, until it ends."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, pss_bytes(process.pid))
        time.sleep(0.5)
    return peak


def test_memory_does_not_grow_with_the_archive(server: S3Server, tmp_path: Path) -> None:
    peaks = {}
    for num_images in (2_000, 10_000):
        filled = night(f"night-{num_images}", tmp_path, num_images)
        process = campaign.start(server, server.endpoint, *filled.line("output"))
        peaks[num_images] = peak_bytes(process)
        summary = campaign.finish(process)
        found = campaign.check_complete(f"{filled.home}/output", filled.archive.expected)
        say(f"{summary}, peak {peaks[num_images] / MIB:.0f} MiB, {dict(found)}")
        assert summary["images"] == len(filled.archive.expected) == num_images
    assert peaks[10_000] <= 1.1 * peaks[2_000]


def etags(uri: str) -> dict[str, str]:
    """Every table's file below an output."""
    bucket, key = s3.bucket_and_key(uri)
    entries = [entry for page in s3.pages(bucket, f"{key}/") for entry in page["Contents"]]
    return {each["Key"]: each["ETag"] for each in entries if each["Key"].endswith(".parquet")}


def test_what_is_done_is_not_done_again(server: S3Server, tmp_path: Path) -> None:
    filled = night("night", tmp_path, 2_000)
    done = []
    for more in (("--limit", "100"), (), ()):
        start_s, before = time.monotonic(), etags(f"{filled.home}/output") if done else {}
        summary = campaign.finish(
            campaign.start(server, server.endpoint, *filled.line("output"), *more)
        )
        done.append((summary["images"], summary["skipped"], time.monotonic() - start_s))
        say(f"{summary}, {done[-1][2]:.1f} s from start to end")
    campaign.check_complete(f"{filled.home}/output", filled.archive.expected)
    assert [each[:2] for each in done] == [(100, 0), (1_900, 100), (0, 2_000)]
    assert done[2][2] < 20
    assert etags(f"{filled.home}/output") == before


def test_a_hundred_thousand_objects_are_listed_in_seconds(server: S3Server) -> None:
    s3.request("create_bucket", Bucket="many")
    names = [f"s3://many/night/{number % 100:03}/{number:06}.png" for number in range(100_000)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: files.write_bytes(name, b""), names))
    start_s, before = time.monotonic(), pss_bytes(os.getpid())
    found = listing.list_archive("s3://many/night").listed
    took_s, grown = time.monotonic() - start_s, pss_bytes(os.getpid()) - before
    say(f"{len(found)} objects listed in {took_s:.1f} s, {grown / MIB:.0f} MiB")
    assert len(found) == 100_000
    assert took_s < 60
    assert grown < 200 * MIB
