"""Whole, cut, broken, oversized and foreign: what the headers tell before pixels are decoded."""

import copy
import io
import struct
import warnings
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqad.images.headers import ImageError, probe

HEIGHT_PX, WIDTH_PX = 24, 32


def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    return Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or picture()).save(stream, kind, **options)
    return stream.getvalue()


def deep(ending: str, *options: int) -> bytes:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint16)
    return cv2.imencode(ending, values, list(options))[1].tobytes()


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    exif[270] = "long enough to be kept outside its directory"
    return exif


WHOLE = {
    "png": encoded("PNG"),
    "png of 16 bits": deep(".png"),
    "jpeg": encoded("JPEG", exif=rotated()),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "cmyk jpeg": encoded("JPEG", picture().convert("CMYK")),
    "bmp": encoded("BMP"),
    "bmp of 1 bit": encoded("BMP", picture().convert("1")),
    "tiff": encoded("TIFF", exif=rotated()),
    "palette tiff": encoded("TIFF", picture().quantize(16)),
    "lzw tiff": encoded("TIFF", compression="tiff_lzw", exif=rotated()),
    "jpeg in tiff": encoded("TIFF", compression="jpeg"),
    "tiff of 16 bits": deep(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True, exif=rotated()),
}


def refused(data: bytes, max_pixels: int = 10_000) -> ImageError:
    with pytest.raises(ImageError) as caught:
        probe(data, max_pixels=max_pixels)
    return caught.value


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of(width_px: int, height_px: int, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


@pytest.mark.parametrize("kind", WHOLE)
def test_size_is_read_from_the_header(kind: str) -> None:
    header = probe(WHOLE[kind], max_pixels=WIDTH_PX * HEIGHT_PX)
    assert (header.width_px, header.height_px) == (WIDTH_PX, HEIGHT_PX)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_anywhere_is_never_taken_for_a_picture(kind: str) -> None:
    data = WHOLE[kind]
    for length in range(len(data)):
        error = refused(data[:length])
        # Of the first few bytes not even the format can be told.
        assert error.error in ("truncated", "unreadable")
        assert error.error == "truncated" or length < 16


@pytest.mark.parametrize(
    ("kind", "name"),
    [("png", "PNG"), ("jpeg", "JPEG"), ("bmp", "BMP"), ("tiff", "TIFF"), ("webp", "WebP")],
)
def test_half_a_file_is_called_truncated(kind: str, name: str) -> None:
    error = refused(WHOLE[kind][: len(WHOLE[kind]) // 2])
    assert (error.error, str(error)) == ("truncated", f"{name} file ends early")


def test_bytes_after_the_end_do_no_harm() -> None:
    for data in WHOLE.values():
        assert probe(data + b"appended", max_pixels=10_000).width_px == WIDTH_PX


def test_a_thumbnail_inside_a_jpeg_does_not_end_it() -> None:
    thumbnail = b"\xff\xe5" + struct.pack(">H", 2 + len(WHOLE["jpeg"])) + WHOLE["jpeg"]
    data = WHOLE["jpeg"][:2] + thumbnail + WHOLE["jpeg"][2:]
    assert probe(data, max_pixels=10_000).width_px == WIDTH_PX
    assert refused(data[:-2]).error == "truncated"


@pytest.mark.parametrize("kind", ["png", "png of 16 bits"])
def test_any_changed_byte_of_a_png_is_noticed(kind: str) -> None:
    for position in range(0, len(WHOLE[kind]), 7):
        data = bytearray(WHOLE[kind])
        data[position] ^= 0x55
        with pytest.raises(ImageError):
            probe(bytes(data), max_pixels=10_000)


def test_a_png_that_fails_its_checksum_is_unreadable() -> None:
    data = bytearray(WHOLE["png"])
    data[len(data) // 2] ^= 1
    error = refused(bytes(data))
    assert (error.error, str(error)) == ("unreadable", "PNG data do not match their checksum")


def test_a_header_that_asks_for_too_much_is_refused_before_anything_else_is_read() -> None:
    side = struct.pack("<I", 50_000)
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC0, 17, 8, 50_000, 50_000, 3)
    bomb = {
        "PNG": png_of(50_000, 50_000),
        "JPEG": b"\xff\xd8" + frame + b"\xff\xda",
        "BMP": b"BM" + bytes(8) + struct.pack("<II", 54, 40) + side * 2 + bytes(28),
        "WebP": b"RIFF\xff\0\0\0WEBPVP8X" + bytes(8) + struct.pack("<I", 49_999)[:3] * 2 + bytes(4),
    }
    for name, data in bomb.items():
        error = refused(data, max_pixels=100_000_000)
        expected = f"{name} of 50000 x 50000 pixels, more than 100000000"
        assert (error.error, str(error)) == ("too_large", expected)


def test_the_depth_of_a_tiff_is_read_from_its_header() -> None:
    depths = {"tiff of 16 bits": 16, "tiff": 8, "palette tiff": 8}
    assert {kind: probe(WHOLE[kind], max_pixels=10_000).bits for kind in depths} == depths


def test_a_tiff_of_too_many_pixels_is_too_large() -> None:
    error = refused(WHOLE["tiff"], max_pixels=WIDTH_PX * HEIGHT_PX - 1)
    assert (error.error, str(error)) == ("too_large", "TIFF of 32 x 24 pixels, more than 767")


def test_a_picture_without_pixels_is_unreadable() -> None:
    error = refused(png_of(0, 5, png_chunk(b"IEND", b"")))
    assert (error.error, str(error)) == ("unreadable", "PNG of 0 x 5 pixels")


def test_formats_that_are_not_supported_are_refused_by_name() -> None:
    assert str(refused(encoded("GIF"))) == "GIF is not a supported format"
    kinds = {"ICO": "ICO", "JPEG2000": "JPEG 2000", "PPM": "PNM", "AVIF": "HEIF or AVIF"}
    for kind, name in kinds.items():
        error = refused(encoded(kind))
        assert (error.error, str(error)) == ("unsupported", f"{name} is not a supported format")


@pytest.mark.parametrize(("kind", "name"), [("PNG", "PNG"), ("WEBP", "WebP")])
def test_animations_are_not_supported(kind: str, name: str) -> None:
    error = refused(encoded(kind, save_all=True, append_images=[picture().rotate(180)]))
    assert (error.error, str(error)) == (
        "unsupported",
        f"animated {name} is not a supported format",
    )


def test_tiff_samples_that_have_no_place_in_the_unit_range_are_refused_with_the_reason() -> None:
    real = refused(encoded("TIFF", Image.new("F", (4, 4))))
    assert (real.error, str(real)) == ("unsupported", "TIFF of floating-point or signed numbers")
    lab = refused(encoded("TIFF", Image.new("LAB", (4, 4))))
    assert (lab.error, str(lab)) == ("unsupported", "TIFF of colour space 8")


def test_only_the_first_page_of_a_tiff_need_be_whole() -> None:
    data = encoded("TIFF", save_all=True, append_images=[picture().rotate(180)])
    assert probe(data[:-100], max_pixels=10_000).width_px == WIDTH_PX


@pytest.mark.parametrize(
    "data", [b"", b"# Notes on the archive\n", bytes(1000), b"BMW or Audi" * 9]
)
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    error = refused(data)
    assert (error.error, str(error)) == ("unreadable", "not a picture of any known format")


@given(st.sampled_from(sorted(WHOLE)), st.integers(2, 40), st.binary(max_size=200))
def test_whatever_the_bytes_the_answer_is_a_header_or_an_image_error(
    kind: str, kept: int, rest: bytes
) -> None:
    pixels = 1
    with suppress(ImageError):
        header = probe(WHOLE[kind][:kept] + rest, max_pixels=10_000)
        pixels = header.width_px * header.height_px
    assert 1 <= pixels <= 10_000


def test_reading_broken_tiff_tags_leaves_the_filter_of_warnings_as_it_was() -> None:
    before = list(warnings.filters)
    refused(WHOLE["tiff"][:200])
    assert warnings.filters == before


def test_an_image_error_survives_being_sent_to_another_process() -> None:
    error = copy.copy(ImageError("truncated", "PNG file ends early"))
    assert (error.error, error.detail) == ("truncated", "PNG file ends early")
