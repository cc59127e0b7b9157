"""Nights that are killed and served by a store that fails, held against an undisturbed one.

    python -m tests.on_ray.campaign --images 1000 --kills 20 --share 0.05

Drivers and actors get SIGKILL at random moments until there were so many kills, then a last run is
let through. Everything is started here and ended by its own process number.
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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.faulty_store import Faults, faulty_store
from tests.on_ray import mixed
from tests.s3server import S3Server, s3server
from vqad import archives, s3
from vqad.on_ray import sink

OBJECT_STORE_BYTES = 512 * 2**20


def start(server: S3Server, endpoint: str, *arguments: str) -> subprocess.Popen[str]:
    """`vqad inspect ARGUMENTS` as a process of its own, with a small object store."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "RAY_", "VQAD_"))
    }
    environment = {
        **kept,
        **server.environment,
        "AWS_ENDPOINT_URL": endpoint,
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(OBJECT_STORE_BYTES),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jobs", "inspect", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a run that must succeed."""
    out, err = process.communicate(timeout=3000)
    assert process.returncode == 0, (process.returncode, out, err)
    summary: dict[str, Any] = json.loads(out)
    return summary


def family(pid: int) -> dict[int, str]:
    """The processes below one, by number, with their command lines."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            lines[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parents[int(path.name)] = int(fields[1])
        except OSError:
            continue
    below = {pid}
    while more := {each for each, parent in parents.items() if parent in below} - below:
        below |= more
    return {each: lines[each] for each in below if each in lines}


def pss_bytes(pid: int) -> int:
    """Proportional memory of a process and all below it."""
    total = 0
    for each in family(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def table_of(output: str, table: sink.Table) -> list[dict[str, Any]]:
    """All rows, sorted by image."""

    def read(part: str) -> list[dict[str, Any]]:
        data = archives.read_bytes(sink.part_uri(output, table, part), max_bytes=2**31)
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(data)).to_pylist()
        return rows

    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(read, sorted(sink.parts(output, table)))
        return sorted((row for part in parts for row in part), key=lambda row: row["image"])


def check_complete(output: str, expected: dict[str, str]) -> Counter[str]:
    """Each image has one verdict, with the right reason; a map each that was not rejected."""
    rows = table_of(output, "verdicts")
    assert [row["image"] for row in rows] == sorted(expected)
    wrong = {row["image"]: row["error"] for row in rows if row["error"] != expected[row["image"]]}
    assert not wrong, dict(list(wrong.items())[:5])
    mapped = [row["image"] for row in table_of(output, "maps")]
    assert mapped == [image for image in sorted(expected) if not expected[image]]
    return Counter(row["error"] or row["verdict"] for row in rows)


def check_same(output: str, other: str) -> None:
    """The same results, as the promise has it: scores and maps within 1e-3 grey levels."""
    for table in ("verdicts", "maps"):
        pairs = zip(table_of(output, table), table_of(other, table), strict=True)
        for row, twin in pairs:
            for name in ("image", "category", "verdict", "error", "codes_changed", "model_version"):
                assert row.get(name) == twin.get(name), (row, twin)
            if row.get("regions"):
                boxes = [[{**each, "peak": 0} for each in its["regions"]] for its in (row, twin)]
                assert boxes[0] == boxes[1], row["image"]
            for name in ("score", "anomaly_map"):
                if row.get(name) is not None:
                    np.testing.assert_allclose(row[name], twin[name], atol=1e-3)


def kill_once(process: subprocess.Popen[str], rng: random.Random, within_s: float) -> str:
    """SIGKILL the driver, or one of its detector actors; says which, or "" if it had ended."""
    wait_s = rng.uniform(0, within_s)
    give_up_s = time.monotonic() + wait_s
    while time.monotonic() < give_up_s and process.poll() is None:
        time.sleep(0.05)
    if process.poll() is not None:
        return ""
    actors = [pid for pid, line in family(process.pid).items() if "MapWorker" in line]
    kind = rng.choice(["driver", "actor"]) if actors else "driver"
    os.kill(process.pid if kind == "driver" else rng.choice(actors), signal.SIGKILL)
    return kind


def wait_until_gone(pids: set[int], within_s: float = 60) -> None:
    """Wait for the processes of a killed driver to end by themselves."""
    give_up_s = time.monotonic() + within_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
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
    """Run and kill until there were so many kills; then let a run through."""
    rng, kills, redo = random.Random(seed), Counter[str](), ()
    while kills["driver"] + kills["actor"] < num_kills:
        process = start(server, endpoint, *arguments, *redo)
        below: set[int] = set()
        while kills["driver"] + kills["actor"] < num_kills and process.poll() is None:
            below |= set(family(process.pid))
            kind = kill_once(process, rng, within_s)
            kills[kind or "ended"] += 1
            if kind == "driver":
                break
        process.communicate()
        kills[f"exit {process.returncode}"] += 1
        wait_until_gone(below)
        if process.returncode == 0:  # all is done; what is killed next is the doing anew
            redo = ("--redo", "all")
    kills["last exit"] = finish(start(server, endpoint, *arguments))["images"]
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.05, help="of requests that fail")
    parser.add_argument("--within-s", type=float, default=40, help="longest time to a kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with s3server() as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        s3.request("create_bucket", Bucket="campaign")
        home = "s3://campaign"
        mixed.save_detectors(f"{home}/models", Path(folder))
        archive = mixed.upload(f"{home}/archive", Path(folder), options.images)
        places = ("--archive", archive.archive, "--models", f"{home}/models", "--output")
        say(f"undisturbed: {finish(start(server, server.endpoint, *places, f'{home}/calm'))}")
        with faulty_store(Faults(behind=server.endpoint, share=options.share)) as faults:
            kills = disturb(
                server,
                faults.endpoint,
                (*places, f"{home}/rough"),
                num_kills=options.kills,
                within_s=options.within_s,
                seed=options.seed,
            )
        say(f"kills: {dict(kills)}; requests and faults: {dict(faults.counts)}")
        say(f"verdicts: {dict(check_complete(f'{home}/rough', archive.expected))}")
        check_same(f"{home}/rough", f"{home}/calm")
        say("the same results")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
