"""Compare a night with kills and failing storage with an undisturbed night.

    python -m tests.campaigns.campaign --images 1000 --kills 20 --share 0.05

Drivers, detector actors and other workers get SIGKILL at random moments until there were so many
kills; then one run ends undisturbed. The campaign only ends processes that it started, by number.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support import mixed_archive
from tests.support.commands import clean_environment
from tests.support.faulty_store import Faults, faulty_store
from tests.support.processes import descendants, runs, title
from tests.support.s3_server import S3Server, s3server
from vqad.inspection import sink
from vqad.storage import files, output_layout, s3

OBJECT_STORE_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Night:
    """A mixed archive and detectors for it on object storage, in a bucket of their own."""

    home: str
    archive: mixed_archive.Mixed

    @property
    def places(self) -> dict[str, str]:
        """The options with their URIs."""
        return {"archive": self.archive.archive, "models": f"{self.home}/models"}

    def line(self, output: str) -> tuple[str, ...]:
        """The same as arguments, with an output in the same bucket."""
        places = {**self.places, "output": f"{self.home}/{output}"}
        return tuple(each for name, uri in places.items() for each in (f"--{name}", uri))


def night(name: str, folder: Path, num_images: int, **configs: Any) -> Night:
    """Fill a new bucket."""
    s3.request("create_bucket", Bucket=name)
    home = f"s3://{name}"
    mixed_archive.save_detectors(f"{home}/models", folder, **configs)
    return Night(home=home, archive=mixed_archive.upload(f"{home}/archive", folder, num_images))


def start(server: S3Server, endpoint: str, *arguments: object) -> subprocess.Popen[str]:
    """`vqad inspect ARGUMENTS` as a process of its own, with a small object store."""
    environment = clean_environment(Path("/nowhere")) | server.environment
    environment |= {
        "AWS_ENDPOINT_URL": endpoint,
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(OBJECT_STORE_BYTES),
        "RAY_worker_niceness": "0",
    }
    command = [sys.executable, "-m", "jobs", "inspect", "--max-reject-fraction=1"]
    command += map(str, arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a run that must succeed."""
    out, err = process.communicate(timeout=3000)
    assert process.returncode == 0, (process.returncode, out, err)
    summary: dict[str, Any] = json.loads(out)
    return summary


# The tables of a run.


def table_of(output: str, table: output_layout.Table) -> list[dict[str, Any]]:
    """All rows, sorted by image."""

    def read(part: str) -> list[dict[str, Any]]:
        data = files.read_bytes(output_layout.part(output, table, part), max_bytes=2**31)
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(data)).to_pylist()
        return rows

    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(read, sorted(sink.parts(output, table)))
        return sorted((row for part in parts for row in part), key=lambda row: row["image"])


def check_complete(output: str, expected: dict[str, str]) -> Counter[str]:
    """Check that each image has one verdict with the expected error, and a map unless rejected."""
    rows = table_of(output, "verdicts")
    assert [row["image"] for row in rows] == sorted(expected)
    wrong = {row["image"]: row["error"] for row in rows if row["error"] != expected[row["image"]]}
    assert not wrong, dict(list(wrong.items())[:5])
    mapped = [row["image"] for row in table_of(output, "maps")]
    assert mapped == [image for image in sorted(expected) if not expected[image]]
    return Counter(row["error"] or row["verdict"] for row in rows)


def check_same(output: str, other: str) -> None:
    """Check that two outputs have the same results, scores within 1e-3 grey levels.

    Maps may differ by a step of `detection.stored_map`, of a value that lies between two of them.
    """
    for table in output_layout.TABLES:
        pairs = zip(table_of(output, table), table_of(other, table), strict=True)
        for row, twin in pairs:
            for name in ("image", "category", "verdict", "error", "codes_changed", "model_version"):
                assert row.get(name) == twin.get(name), (row, twin)
            if row.get("regions"):
                boxes = [[{**each, "peak": 0} for each in its["regions"]] for its in (row, twin)]
                assert boxes[0] == boxes[1], row["image"]
            if row.get("score") is not None:
                np.testing.assert_allclose(row["score"], twin["score"], atol=1e-3)
            if row.get("anomaly_map") is not None:
                bounds = {"atol": 1 / 32 + 1e-3, "rtol": 1 / 256}
                np.testing.assert_allclose(row["anomaly_map"], twin["anomaly_map"], **bounds)


# Disturbing a run.


# A node is its raylet process: all workers of a node end with it.
KINDS = ("driver", "driver and Ray", "actor", "actor", "worker", "node")


def victims(pid: int, kind: str) -> list[int]:
    """Processes of this kind below a driver. A driver's are killed together, else one of them."""
    below = list(descendants(pid))
    if kind.startswith("driver"):
        return [pid, *(below if kind == "driver and Ray" else ())]
    titles = {each: title(each) for each in below}
    if kind == "node":
        return [each for each, name in titles.items() if "/raylet/raylet" in name]
    # Ray's agents are not workers: a node ends when one of them ends.
    workers = {
        each: "MapWorker" in name
        for each, name in titles.items()
        if name.startswith("ray::") and "Agent" not in name
    }
    return [each for each, is_actor in workers.items() if is_actor == (kind == "actor")]


def kill(process: subprocess.Popen[str], kind: str, rng: random.Random) -> bool:
    """Kill processes of this kind with SIGKILL; returns whether there were any."""
    found = victims(process.pid, kind) if process.poll() is None else []
    for pid in found if kind.startswith("driver") else rng.sample(found, min(1, len(found))):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def wait_until_gone(pids: set[int], within_s: float = 150) -> None:
    """Wait for the processes of killed drivers to end by themselves."""
    give_up_s = time.monotonic() + within_s
    while any(map(runs, pids)):
        assert time.monotonic() < give_up_s, f"processes remain: {pids}"
        time.sleep(0.2)


def disturb(
    server: S3Server,
    endpoint: str,
    arguments: tuple[str, ...],
    *,
    num_kills: int,
    within_s: float,
    seed: int,
) -> Counter[str]:
    """Run and kill until the number of kills is reached; then do one undisturbed run.

    When a driver alone is killed, its workers live on into the next run until Ray notices.
    """
    rng, counts, left = random.Random(seed), Counter[str](), set[int]()
    redo: tuple[str, ...] = ()
    while (num_left := num_kills - sum(counts[kind] for kind in set(KINDS))) > 0:
        process = start(server, endpoint, *arguments, *redo)
        while num_left and _runs_for(process, rng.uniform(0, within_s)):
            left |= set(descendants(process.pid))
            kind = rng.choice(KINDS)
            if kill(process, kind, rng):
                counts[kind] += 1
                num_left -= 1
        counts[f"exit {process.wait(timeout=3000)}"] += 1
        if process.returncode > 0:  # it was not killed, so no other process has its streams
            say(process.communicate()[1].splitlines()[-1])
        if (
            process.returncode == 0
        ):  # everything is done; the next kills hit a run that does it again
            redo = ("--redo", "all")
        say(f"{dict(counts)}")
    wait_until_gone(left)
    counts["done by the last"] = finish(start(server, endpoint, *arguments))["images"]
    return counts


def _runs_for(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether the process is still running after this time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.05, help="of requests that fail")
    parser.add_argument("--within-s", type=float, default=15, help="longest time to a kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with s3server() as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        filled = night("campaign", Path(folder), options.images)
        calm = finish(start(server, server.endpoint, *filled.line("calm")))
        say(f"undisturbed: {calm}")
        with faulty_store(Faults(behind=server.endpoint, share=options.share)) as faults:
            counts = disturb(
                server,
                faults.endpoint,
                filled.line("rough"),
                num_kills=options.kills,
                within_s=options.within_s,
                seed=options.seed,
            )
        say(f"kills: {dict(counts)}; requests and faults: {dict(faults.counts)}")
        found = check_complete(f"{filled.home}/rough", filled.archive.expected)
        say(f"verdicts: {dict(found)}")
        check_same(f"{filled.home}/rough", f"{filled.home}/calm")
        say("the same results")


def say(line: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
