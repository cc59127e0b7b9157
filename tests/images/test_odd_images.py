"""Valid files of rare kinds are read or named unsupported; files that end early are truncated."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.images.test_decoding import TURNED
from vqad.images import jpeg_end
from vqad.images.decoding import decode
from vqad.images.headers import ImageError

HEIGHT_PX, WIDTH_PX = 24, 40


def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    return Image.fromarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, 32))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or picture()).save(stream, kind, **options)
    return stream.getvalue()


def refused(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        decode(data, size_px=16)
    return caught.value.error, caught.value.detail


# Orientation


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()  # with the prefix "Exif\0\0"


def xmp(orientation: int) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="{orientation}"/></x:xmpmeta>'


def png_text(keyword: str, text: str, kind: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt(keyword, text, zip=False)
    else:
        info.add_text(keyword, text, zip=kind == "zTXt")
    return encoded("PNG", pnginfo=info)


def raw_profile(orientation: int) -> str:
    data = exif(orientation)
    digits = data.hex()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return "\n".join(["", "exif", f"{len(data):8}", *lines, ""])


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    """A lossless WebP with one more chunk of metadata."""
    base = encoded("WEBP", lossless=True, exif=exif(1)[6:])
    at = base.index(b"EXIF")
    padded = content + bytes(len(content) % 2)
    body = base[12:at] + kind + struct.pack("<I", len(content)) + padded
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


ORIENTED = {
    "PNG, text": lambda n: png_text("Raw profile type exif", raw_profile(n), "tEXt"),
    "PNG, compressed text": lambda n: png_text("Raw profile type exif", raw_profile(n), "zTXt"),
    "PNG, APP1": lambda n: png_text("Raw profile type APP1", raw_profile(n), "tEXt"),
    "PNG, XMP": lambda n: png_text("XML:com.adobe.xmp", xmp(n), "iTXt"),
    "PNG, eXIf": lambda n: encoded("PNG", exif=exif(n)),
    "WebP, prefix": lambda n: webp_chunk(b"EXIF", exif(n)),
    "WebP, no prefix": lambda n: webp_chunk(b"EXIF", exif(n)[6:]),
    "WebP, XMP": lambda n: webp_chunk(b"XMP ", xmp(n).encode()),
}


@pytest.mark.parametrize("place", ORIENTED)
@pytest.mark.parametrize("orientation", TURNED)
def test_an_orientation_is_applied_wherever_it_is_stated(place: str, orientation: int) -> None:
    found = decode(ORIENTED[place](orientation), size_px=16)
    upright = np.ascontiguousarray(TURNED[orientation](np.asarray(picture())))
    assert (found.source_height_px, found.source_width_px) == upright.shape[:2]
    expected = cv2.resize(upright, (16, 16), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(found.pixels, expected)


@pytest.mark.parametrize(
    "data",
    [
        encoded("PNG", exif=b"Exif\0\0" + b"II*\0" + b"\xff" * 9),
        png_text("Raw profile type exif", "\nexif\n 9\nno digits\n", "tEXt"),
        png_text("XML:com.adobe.xmp", 'tiff:Orientation="9"', "iTXt"),
        webp_chunk(b"EXIF", b"\0"),
    ],
)
def test_metadata_that_cannot_be_read_leave_a_picture_as_it_is(data: bytes) -> None:
    found = decode(data, size_px=16)
    assert (found.source_width_px, found.source_height_px) == (WIDTH_PX, HEIGHT_PX)


# JPEG


def cut_with_end_marker(data: bytes, share: float) -> bytes:
    start = data.rindex(b"\xff\xda") + 2
    start += int.from_bytes(data[start : start + 2])  # after the header of the last scan
    return data[: start + int((len(data) - start) * share)].rstrip(b"\xff") + b"\xff\xd9"


JPEGS = {
    "colour": {},
    "fine chroma": {"subsampling": 0},
    "with restarts": {"restart_marker_blocks": 1},
    "progressive": {"progressive": True},
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_that_ends_early_is_truncated_though_it_has_an_end_marker(
    name: str, mode: str, orientation: int
) -> None:
    image = picture().convert(mode)
    if mode == "CMYK":  # Pillow leaves black empty, so that nothing of it could be missing
        image = Image.merge("CMYK", [*image.split()[:3], picture().convert("L")])
    data = encoded("JPEG", image, exif=exif(orientation), **JPEGS[name])
    decode(data, size_px=16)
    for share in (0.4, 0.5, 0.6, 0.7):
        expected = ("truncated", "JPEG data end before the picture is complete")
        assert refused(cut_with_end_marker(data, share)) == expected


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("value", [127, 128, 129])
def test_a_jpeg_that_is_grey_to_its_end_is_complete(mode: str, value: int) -> None:
    for name, options in JPEGS.items():
        image = picture()
        image.paste((value, value, value), (0, HEIGHT_PX // 2, WIDTH_PX, HEIGHT_PX))
        for each in (image, Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (value, value, value))):
            data = encoded("JPEG", each.convert(mode), **options)
            assert decode(data, size_px=16).source_width_px == WIDTH_PX, name


def test_a_jpeg_whose_corners_are_not_grey_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jpeg_end, "_digest", None)
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (200, 30, 30))
    decode(encoded("JPEG", image), size_px=16)


def test_lossless_jpeg_is_unsupported() -> None:
    frame = struct.pack(">BBHBHHBBBB", 0xFF, 0xC3, 11, 8, 9, 9, 1, 1, 0x11, 0)
    data = b"\xff\xd8" + frame + b"\xff\xd9"
    assert refused(data) == ("unsupported", "lossless or hierarchical JPEG is not supported")


# BMP


def bmp(bits: int, masks: tuple[int, ...], header_bytes: int, *, is_upright: bool) -> bytes:
    """A BMP of the picture's values, divided into channels by masks; red, green, blue."""
    rows = np.asarray(picture()).astype(np.uint64)
    rows = rows if is_upright else rows[::-1]
    values = np.zeros(rows.shape[:2], np.uint64)
    for channel, mask in enumerate(masks or (0x7C00, 0x3E0, 0x1F)):
        low = mask & -mask
        values |= (rows[..., channel] * (mask // low) + 127) // 255 * low
    pixels = values.astype(f"<u{bits // 8}").tobytes()
    height_px = -HEIGHT_PX if is_upright else HEIGHT_PX
    numbers = (WIDTH_PX, height_px, 1, bits, 3 if masks else 0, len(pixels), 0, 0, 0, 0)
    header = struct.pack("<IiiHHIIiiII", header_bytes, *numbers)
    header += b"".join(struct.pack("<I", mask) for mask in masks)
    header = header.ljust(header_bytes, b"\0")
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


MASKS = {
    "5-6-5": (16, (0xF800, 0x7E0, 0x1F)),
    "1-5-5-5": (16, (0x7C00, 0x3E0, 0x1F)),
    "5-5-5 without masks": (16, ()),
    "8-8-8": (32, (0xFF0000, 0xFF00, 0xFF)),
    "red last": (32, (0xFF, 0xFF00, 0xFF0000)),
    "red first": (32, (0xFF000000, 0xFF0000, 0xFF00)),
    "10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("is_upright", [True, False])
def test_a_bmp_is_read_by_its_masks(name: str, header_bytes: int, is_upright: bool) -> None:
    bits, masks = MASKS[name]
    data = bmp(bits, masks, header_bytes, is_upright=is_upright)
    found = decode(data, size_px=HEIGHT_PX)
    expected = cv2.resize(
        np.asarray(picture()), (HEIGHT_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA
    )
    tolerance = 5 if bits == 16 else 1  # half a step of 5 bits is 4 of 255
    np.testing.assert_allclose(found.pixels.astype(int), expected, atol=tolerance)


def test_white_of_five_bits_is_white() -> None:
    data = bytearray(bmp(16, (), 40, is_upright=True))
    data[54:] = b"\xff" * (len(data) - 54)
    assert (decode(bytes(data), size_px=16).pixels == 255).all()


@pytest.mark.parametrize("mask", [0, 0xF0F0])
def test_a_bmp_of_odd_masks_is_unsupported(mask: int) -> None:
    data = bytearray(bmp(32, (0xFF, 0xFF00, 0xFF0000), 56, is_upright=True))
    struct.pack_into("<I", data, 54, mask)
    assert refused(bytes(data)) == ("unsupported", f"BMP with the channel mask {mask:#x}")


# TIFF


def tiff(strips: list[bytes], **tags: int) -> bytes:
    """A TIFF of these strips; tags by number, each with one value of 32 bits."""
    values = {256: [16], 257: [16], 258: [8], 259: [1], 262: [1], 277: [1], 278: [8]}
    values |= {int(name[1:]): [value] for name, value in tags.items()}
    num_entries = len(values) + 2
    outside = 8 + 2 + 12 * num_entries + 4
    start = outside + 8 * len(strips)
    starts = [start + sum(map(len, strips[:number])) for number in range(len(strips))]
    values |= {273: starts, 279: [len(strip) for strip in strips]}
    entries, arrays = b"", b""
    for tag, found in sorted(values.items()):
        packed = struct.pack(f"<{len(found)}I", *found)
        if len(packed) > 4:
            arrays += packed
            packed = struct.pack("<I", outside + len(arrays) - len(packed))
        entries += struct.pack("<HHI", tag, 4, len(found)) + packed
    head = b"II*\0" + struct.pack("<IH", 8, num_entries) + entries + bytes(4)
    return head + arrays.ljust(8 * len(strips), b"\0") + b"".join(strips)


GREY = bytes(range(256))


def test_the_tiff_of_these_tests_is_read() -> None:
    found = decode(tiff([GREY[:128], GREY[128:]]), size_px=16).pixels
    assert found[..., 0].tobytes() == GREY


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [1, 8])
def test_a_tiff_without_its_last_strips_is_truncated(bits: int, compression: int) -> None:
    strip = GREY[:128] * (bits // 8)
    strip = zlib.compress(strip) if compression == 8 else strip
    for strips in ([strip], [strip, b""]):
        data = tiff(strips, t258=bits, t259=compression)
        assert refused(data) == ("truncated", "TIFF file ends early")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_strip_ends_early_is_not_inspected(bits: int) -> None:
    whole = GREY * (bits // 8)
    for strip in (zlib.compress(whole[: len(whole) // 2]), zlib.compress(whole)[:100]):
        data = tiff([strip], t258=bits, t259=8, t278=16)
        assert refused(data) == ("unreadable", "TIFF data are corrupt")


@pytest.mark.parametrize("tags", [{"t259": 8}, {"t259": 5}, {"t259": 1}])
def test_a_tiff_in_ycbcr_whose_missing_data_would_go_unnoticed_is_unsupported(tags: dict) -> None:
    data = tiff([GREY * 2, GREY * 2], t262=6, t277=3, **tags)
    assert refused(data) == ("unsupported", "TIFF in YCbCr that is not compressed by JPEG")


def test_a_16_bit_tiff_of_a_rare_compression_is_unsupported() -> None:
    data = tiff([GREY, GREY], t258=16, t259=50000)
    assert refused(data) == ("unsupported", "16-bit TIFF of compression 50000")


def test_a_tiff_with_strips_of_no_rows_is_unreadable() -> None:
    assert refused(tiff([GREY], t278=0)) == ("unreadable", "TIFF directory is corrupt")
