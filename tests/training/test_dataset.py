"""Images to learn from: decoded once, in memory or in a file, and what can't be read is named."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vqad.images import listing
from vqad.images.tensors import to_images, to_tensor
from vqad.training import dataset
from vqad.training.networks import OnDisk, draw_images


def write(folder: Path, num: int, *, deep: tuple[int, ...] = ()) -> list[listing.Listed]:
    rng = np.random.default_rng(0)
    for number in range(num):
        pixels = rng.integers(0, 65536, (20, 24, 3), np.uint16)
        picture = pixels if number in deep else (pixels >> 8).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return listing.list_images(str(folder))


@pytest.mark.parametrize("deep", [(), (0,), (5, 7)], ids=["8 bits", "16 first", "16 later"])
def test_a_file_holds_what_memory_would(tmp_path: Path, deep: tuple[int, ...]) -> None:
    listed = write(tmp_path, 40, deep=deep)
    inside = dataset.read(listed, size_px=16)
    outside = dataset.read(listed, size_px=16, in_memory_bytes=0)
    assert not isinstance(inside.pixels, np.memmap)
    assert isinstance(outside.pixels, np.memmap)
    assert outside.pixels.dtype == inside.pixels.dtype == (np.uint16 if deep else np.uint8)
    assert np.array_equal(outside.pixels, inside.pixels)
    assert outside.names == inside.names == [each.image for each in listed]


def test_up_to_the_bound_pixels_stay_in_memory(tmp_path: Path) -> None:
    listed = write(tmp_path, 3)
    num_bytes = 3 * 16 * 16 * 3
    for bound, streamed in ((num_bytes, False), (num_bytes - 1, True)):
        pixels = dataset.read(listed, size_px=16, in_memory_bytes=bound).pixels
        assert isinstance(pixels, np.memmap) == streamed


@pytest.mark.parametrize("bound", [0, 2**30])
def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path, bound: int) -> None:
    listed = write(tmp_path, 5)
    picture = (tmp_path / "002.png").read_bytes()
    (tmp_path / "002.png").write_bytes(picture[:-60])
    (tmp_path / "004.png").write_bytes(b"text")
    found = dataset.read(listed, size_px=16, in_memory_bytes=bound)
    assert [name[-7:] for name in found.names] == ["000.png", "001.png", "003.png"]
    assert found.pixels.shape == (3, 16, 16, 3)
    torn, text = found.unreadable
    assert torn.startswith(listed[2].image + ": truncated: ")
    assert text.startswith(listed[4].image + ": unreadable: ")


def test_where_none_can_be_read_the_first_is_told(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"text")
    listed = listing.list_images(str(tmp_path))
    with pytest.raises(ValueError, match=r"none of 1 images can be read; the first: file:.*1\.png"):
        dataset.read(listed, size_px=16)


def test_another_process_of_the_node_maps_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    listed = write(tmp_path / "images", 9, deep=(4,))
    found = dataset.read(listed, size_px=16, in_memory_bytes=0, folder=tmp_path)
    rows = dataset.mapped(tmp_path, found.pixels.shape, found.pixels.dtype.name)
    assert np.array_equal(rows, found.pixels)
    torch.from_numpy(rows)  # without a warning


def test_a_full_disk_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = "3840 bytes of decoded images do not fit into .*: No space left on device; set TMPDIR"
    with pytest.raises(ValueError, match=message):
        dataset.read(write(tmp_path, 5), size_px=16, in_memory_bytes=0)


def test_the_fingerprint_changes_with_names_and_contents(tmp_path: Path) -> None:
    listed = write(tmp_path, 3)
    before = dataset.fingerprint(listed)
    assert dataset.fingerprint(listing.list_images(str(tmp_path))) == before
    assert dataset.fingerprint(listed[:2]) != before
    (tmp_path / "001.png").write_bytes((tmp_path / "002.png").read_bytes() + b" ")
    assert dataset.fingerprint(listing.list_images(str(tmp_path))) != before


def test_batches_drawn_from_disk_are_those_drawn_from_memory() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3)).astype(np.uint8)
    positions = np.arange(5, 25)
    on_disk = OnDisk(rows, positions, torch.device("cpu"))
    in_memory = to_tensor(rows[positions])
    assert len(on_disk) == len(in_memory)
    assert torch.equal(on_disk[3:9], in_memory[3:9])
    one, other = (
        draw_images(each, "texture", 8, torch.Generator().manual_seed(0))
        for each in (on_disk, in_memory)
    )
    assert torch.equal(one, other)
    assert torch.equal(to_images(on_disk[0:1]), to_images(in_memory[:1]))
