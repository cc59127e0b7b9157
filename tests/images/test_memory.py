"""Decoding keeps to a bound on memory, whatever its threads are asked to decode."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from vqad.images import memory
from vqad.images.headers import Header
from vqad.images.memory import MemoryBudget


@pytest.fixture(autouse=True)
def _locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))


def most_at_once(budget: MemoryBudget, sizes: list[int]) -> int:
    """Reserve all sizes in threads of their own; returns the largest sum that was taken."""
    taken: list[int] = []

    def work(size: int) -> None:
        with budget.reserved(size):
            taken.append(budget.used_bytes)
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=30)
    assert len(taken) == len(sizes)
    assert budget.used_bytes == 0
    return max(taken)


def test_threads_never_take_more_than_the_budget() -> None:
    assert most_at_once(MemoryBudget("test", 10), [4] * 12) <= 8
    assert most_at_once(MemoryBudget("test", 10), [1, 99, 3, 99, 10, 11, 2, 0] * 3) <= 10


def test_bytes_are_free_again_after_an_error() -> None:
    budget = MemoryBudget("test", 10)
    for size in (5, 50):
        with pytest.raises(ValueError, match="broken"), budget.reserved(size):
            raise ValueError("broken")
    assert budget.used_bytes == 0


HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from vqad.images.memory import MemoryBudget
with MemoryBudget("test", 10).reserved(int(sys.argv[2])):
    print("reserved", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize(("size", "waits"), [(11, True), (10, False)])
def test_of_all_processes_one_has_something_larger_than_the_budget(
    tmp_path: Path, size: int, waits: bool
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "reserved\n"
        got = threading.Event()

        def reserve() -> None:
            with MemoryBudget("test", 10).reserved(99):
                got.set()

        thread = threading.Thread(target=reserve)
        thread.start()
        assert got.wait(0.3 if waits else 30) != waits
        other.kill()  # a lock goes with its process
        thread.join(timeout=30)
    assert got.is_set()


def test_without_a_folder_for_locks_the_bound_is_the_processs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory.tempfile, "tempdir", "/nowhere")
    assert most_at_once(MemoryBudget("test", 10), [99] * 5) == 10


def test_sixteen_bits_tiff_and_jpeg_need_more() -> None:
    def needed(name: str, bits: int, num_scans: int = 1) -> int:
        header = Header(format=name, width_px=10, height_px=10, bits=bits, num_scans=num_scans)
        return memory.decoding_bytes(header)

    assert needed("PNG", 8) == needed("WebP", 8) == needed("PNG", 1) == 600
    assert (needed("JPEG", 8), needed("JPEG", 8, num_scans=10)) == (800, 1400)
    assert needed("PNG", 16) == 1200
    assert needed("TIFF", 8) == 1400


MEASURED = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vqad.images import decoding, memory

def status_bytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

data = open(sys.argv[1], "rb").read()
decoding.decode(open(sys.argv[2], "rb").read(), size_px=32)  # loads what is loaded once
memory.DECODING.limit_bytes = int(sys.argv[3])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of the imports, is forgotten
before = status_bytes("VmRSS")
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: decoding.decode(data, size_px=32), range(8)))
print(status_bytes("VmHWM") - before)
"""


def test_eight_threads_that_decode_large_pictures_need_the_memory_of_one(tmp_path: Path) -> None:
    side_px = 4000
    for name, pixels in (
        ("large", np.zeros((side_px, side_px), np.uint16)),
        ("small", np.zeros(9)),
    ):
        assert cv2.imwrite(f"{tmp_path}/{name}.png", pixels.astype(np.uint16))
    of_one = side_px**2 * 12

    def measured(limit_bytes: int) -> int:
        command = [sys.executable, "-c", MEASURED, f"{tmp_path}/large.png", f"{tmp_path}/small.png"]
        done = subprocess.run([*command, str(limit_bytes)], check=True, capture_output=True)
        return int(done.stdout)

    assert measured(2**20) < 1.5 * of_one
    assert measured(2**40) > 2 * of_one  # without a bound: all of them at the same time
