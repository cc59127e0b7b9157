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


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("bound", [0, 2**30], ids=["file", "memory"])
def test_the_bits_of_a_camera_are_found_and_its_values_use_the_whole_range(
    tmp_path: Path, bits: int, bound: int
) -> None:
    rng = np.random.default_rng(0)
    largest = 2**bits - 1
    pictures = [rng.integers(0, largest + 1, (16, 16, 3), np.uint16) for _ in range(6)]
    pictures[3][0, 0] = largest
    for number, picture in enumerate(pictures):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    # An image of 8 bits among them has its range already.
    shallow = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert cv2.imwrite(str(tmp_path / "6.png"), shallow)
    found = dataset.read(listing.list_images(str(tmp_path)), size_px=16, in_memory_bytes=bound)
    assert found.bits == bits
    for picture, pixels in zip(pictures, found.pixels, strict=False):
        assert np.abs(pixels[..., ::-1] / 65535 - picture / largest).max() < 1e-4
    assert np.array_equal(found.pixels[6], shallow * np.uint16(257))
    again = dataset.read(listing.list_images(str(tmp_path)), size_px=16, bits=bits)
    assert np.array_equal(again.pixels, found.pixels)
    old = dataset.read(listing.list_images(str(tmp_path)), size_px=16, bits=16)
    assert np.array_equal(old.pixels[0][..., ::-1], pictures[0])


def test_values_of_the_whole_range_stay_as_they_are(tmp_path: Path) -> None:
    found = dataset.read(write(tmp_path, 5, deep=(2,)), size_px=16)
    assert (found.bits, found.pixels.dtype) == (16, np.uint16)
    (tmp_path / "002.png").unlink()
    shallow = dataset.read(listing.list_images(str(tmp_path)), size_px=16)
    assert (shallow.bits, shallow.pixels.dtype) == (16, np.uint8)


def write_masks(folder: Path, *names: str) -> list[listing.Listed]:
    mask = np.zeros((20, 24), np.uint8)
    mask[4:9, 5:11] = 255
    for name in names:
        assert cv2.imwrite(str(folder / name), mask)
    return listing.list_images(str(folder))


@pytest.mark.parametrize("bound", [0, 2**30], ids=["file", "memory"])
def test_a_mask_among_many_images_is_left_out_and_named(tmp_path: Path, bound: int) -> None:
    alone = dataset.read(write(tmp_path, 20), size_px=16)
    listed = write_masks(tmp_path, "0085.png")
    found = dataset.read(listed, size_px=16, in_memory_bytes=bound)
    assert np.array_equal(found.pixels, alone.pixels)
    assert found.names == alone.names
    (line,) = found.suspicious
    assert line.endswith("/0085.png: only 2 different values, as in a mask")
    # An existing detector reads the images that it was given then.
    assert len(dataset.read(listed, size_px=16, bits=16).names) == 21


def test_a_picture_of_far_fewer_colours_than_the_rest_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 20)
    labels = np.random.default_rng(0).integers(0, 5, (20, 24), np.uint8)
    assert cv2.imwrite(str(tmp_path / "zz.png"), labels)
    (line,) = dataset.read(listing.list_images(str(tmp_path)), size_px=16).suspicious
    assert "zz.png: only 5 different values, where 25" in line


def test_a_folder_with_many_masks_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 10)
    listed = write_masks(tmp_path, "a.png", "b.png", "c.png")
    message = r"3 of 13 images look like masks, the first: file:.*/a\.png: only 2 .*; move them out"
    with pytest.raises(ValueError, match=message):
        dataset.read(listed, size_px=16)
