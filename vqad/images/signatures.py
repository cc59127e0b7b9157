"""The first bytes of image formats: those that are decoded, and those that are refused by name.

They are matched in this order. A signature of few bytes comes after those that begin like it.
"""

import re
from typing import Final

SUPPORTED: Final = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0\*"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
}
REFUSED: Final = {
    "GIF": re.compile(rb"GIF8[79]a"),
    "HEIF or AVIF": re.compile(rb"....ftyp(hei|hev|mif1|msf1|avi[fs])", re.DOTALL),
    "JPEG 2000": re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "OpenEXR": re.compile(rb"v/1\x01"),
    "Photoshop": re.compile(rb"8BPS"),
    "PNM": re.compile(rb"P[1-7]\s+[\d#W]"),
    "Radiance HDR": re.compile(rb"#\?R"),
    "ICO": re.compile(rb"\0\0[\1\2]\0[^\0]"),
    "SVG": re.compile(rb"<svg\b"),
    "big-endian BigTIFF": re.compile(rb"MM\0\+"),
}
