"""The rules by which bytes become pixels."""

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from vqad.images import decoding, headers
from vqad.images.decoding import decode, stack, to_unit
from vqad.images.headers import ImageError

SIZE_PX = 16


def colours() -> np.ndarray:
    """A square picture of smooth colour that no rotation or flip leaves as it is."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, size_px=SIZE_PX).pixels


LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "TIFF by LZW": {"compression": "tiff_lzw"},
    "TIFF by deflate": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True, "exact": True},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_pixels_that_were_put_in(kind: str) -> None:
    data = encoded(Image.fromarray(colours()), kind.split()[0], **LOSSLESS[kind])
    np.testing.assert_array_equal(pixels_of(data), colours())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_comes_out_as_pillow_decodes_it(progressive: bool) -> None:
    data = encoded(Image.fromarray(colours()), "JPEG", quality=90, progressive=progressive)
    np.testing.assert_allclose(
        pixels_of(data).astype(int), np.asarray(Image.open(io.BytesIO(data))), atol=2
    )


@pytest.mark.parametrize("kind", list(LOSSLESS))
def test_alpha_is_dropped_and_not_composited(kind: str) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (SIZE_PX, SIZE_PX, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([colours(), alpha], axis=2))
    np.testing.assert_array_equal(
        pixels_of(encoded(image, kind.split()[0], **LOSSLESS[kind])), colours()
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_grey_and_palette_become_rgb(kind: str, mode: str) -> None:
    image = Image.fromarray(colours()).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels_of(encoded(image, kind)), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind: str) -> None:
    ink = np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)
    ink[:, :8] = (0, 255, 255, 0)
    ink[:, 8:] = (255, 0, 0, 128)
    pixels = pixels_of(encoded(Image.fromarray(ink, "CMYK"), kind)).astype(int)
    np.testing.assert_allclose(pixels[4, 3], (255, 0, 0), atol=4)
    np.testing.assert_allclose(pixels[4, 12], (0, 127, 127), atol=4)


def deep_colours() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 65536, (SIZE_PX, SIZE_PX, 3), dtype=np.uint16)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen_bits(ending: str) -> None:
    data = cv2.imencode(ending, deep_colours()[..., ::-1])[1].tobytes()
    pixels = pixels_of(data)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, deep_colours())


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bit_grey_and_alpha_become_sixteen_bit_rgb(ending: str) -> None:
    grey = deep_colours()[..., 0]
    pixels = pixels_of(cv2.imencode(ending, grey)[1].tobytes())
    np.testing.assert_array_equal(pixels, np.stack([grey] * 3, axis=2))
    four = np.concatenate([deep_colours()[..., ::-1], grey[..., None]], axis=2)
    pixels = pixels_of(cv2.imencode(ending, four)[1].tobytes())
    np.testing.assert_array_equal(pixels, deep_colours())


TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "TIFF by LZW", "WEBP"])
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, **LOSSLESS}[kind]
    wide = np.ascontiguousarray(np.repeat(colours(), 2, axis=1))
    data = encoded(Image.fromarray(wide), kind.split()[0], exif=exif, **options)
    decoded = decode(data, size_px=SIZE_PX)
    upright = TURNED[orientation](wide)
    size = (decoded.source_height_px, decoded.source_width_px)
    assert size == upright.shape[:2] == ((32, 16) if orientation > 4 else (16, 32))
    expected = cv2.resize(
        np.ascontiguousarray(upright), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA
    )
    np.testing.assert_allclose(decoded.pixels.astype(int), expected, atol=6)


def test_only_the_first_page_of_a_tiff_is_decoded() -> None:
    first, second = Image.fromarray(colours()), Image.fromarray(255 - colours())
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(pixels_of(data), colours())


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def test_shrinking_averages_the_pixels_that_become_one() -> None:
    values = np.zeros((4, 4, 3), np.uint8)
    values[::2, ::2] = 200
    assert (decode(png(values), size_px=2).pixels == 50).all()
    deep = values.astype(np.uint16) * 257
    assert (decode(png(deep), size_px=2).pixels == 50 * 257).all()


def test_enlarging_interpolates_between_pixels() -> None:
    values = np.zeros((1, 2, 3), np.uint8)
    values[0, 1] = 100
    row = decode(png(values), size_px=4).pixels[0, :, 0]
    assert row.tolist() == [0, 25, 75, 100]


def test_a_side_that_shrinks_averages_even_where_the_other_one_grows() -> None:
    values = np.zeros((1, 64, 3), np.uint8)
    values[0, ::2] = 200
    assert (decode(png(values), size_px=4).pixels == 100).all()


def test_a_png_whose_compressed_data_end_early_is_unreadable() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10 * 5))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"^PNG data are corrupt$") as caught:
        pixels_of(b"\x89PNG\r\n\x1a\n" + header + data)
    assert caught.value.error == "unreadable"


def test_a_tiff_whose_compressed_data_are_wrong_is_unreadable() -> None:
    data = encoded(Image.fromarray(colours()), "TIFF", compression="tiff_adobe_deflate")
    start = data.index(b"\x78")
    broken = data[:start] + bytes(30) + data[start + 30 :]
    with pytest.raises(ImageError, match=r"^TIFF data are corrupt$") as caught:
        pixels_of(broken)
    assert caught.value.error == "unreadable"


def test_nothing_is_printed_by_python_or_opencv_about_a_broken_file(
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = bytearray(encoded(Image.fromarray(colours()), "WEBP", lossless=True))
    data[40:] = bytes(len(data) - 40)
    with pytest.raises(ImageError, match=r"^WebP data are corrupt$"):
        pixels_of(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_no_bytes_are_empty() -> None:
    with pytest.raises(ImageError, match=r"^no bytes$") as caught:
        pixels_of(b"")
    assert caught.value.error == "empty"


def test_more_bytes_than_allowed_are_too_large() -> None:
    with pytest.raises(ImageError, match=r"^11 bytes, more than 10$") as caught:
        decode(bytes(11), size_px=4, max_bytes=10)
    assert caught.value.error == "too_large"


def test_an_input_size_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^size_px must be at least 1, got 0$"):
        decode(b"x", size_px=0)


def test_a_colour_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(colours()), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(pixels_of(data), colours())


def test_unit_values_run_from_zero_to_one_at_either_depth() -> None:
    assert to_unit(np.array([0, 51, 255], np.uint8)).tolist() == [0, np.float32(0.2), 1]
    assert to_unit(np.array([0, 13107, 65535], np.uint16)).tolist() == [0, np.float32(0.2), 1]


def test_only_pixels_have_unit_values() -> None:
    with pytest.raises(ValueError, match=r"^pixels must be uint8 or uint16, got int32$"):
        to_unit(np.zeros(3, np.int32))


@settings(deadline=None)  # the first call compiles the checks of array shapes
@given(arrays.arrays(np.uint8, (2, 3, 3)))
def test_stacking_with_a_deeper_picture_keeps_unit_values_exactly(pixels: np.ndarray) -> None:
    deep = np.full((2, 3, 3), 12345, np.uint16)
    stacked = stack([pixels, deep])
    assert stacked.dtype == np.uint16
    np.testing.assert_array_equal(to_unit(stacked), np.stack([to_unit(pixels), to_unit(deep)]))


@given(st.integers(1, 4))
def test_eight_bit_pictures_stay_eight_bit_when_stacked(count: int) -> None:
    stacked = stack([colours()] * count)
    assert (stacked.dtype, stacked.shape) == (np.uint8, (count, SIZE_PX, SIZE_PX, 3))


def test_the_rules_can_be_recorded_as_json() -> None:
    assert json.loads(json.dumps(decoding.PREPROCESSING)) == decoding.PREPROCESSING
    assert decoding.PREPROCESSING["sixteen_bit"] == "divided by 65535"


def test_every_supported_format_has_an_ending_and_gif_is_listed_to_be_refused() -> None:
    assert {
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
    } <= headers.EXTENSIONS
    assert not {".txt", ".json", ".md", ""} & headers.EXTENSIONS
