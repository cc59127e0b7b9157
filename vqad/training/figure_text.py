r"""Text in figures: names of categories and files may be in any script.

Matplotlib draws a box and warns where a font has no glyph. So a font that has all glyphs is looked
for among those of this machine. If there is none, the characters are spelled as ``\u87ba``.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_FONT: Final = "DejaVu Sans"  # matplotlib's own, which is always there


def drawable(text: str) -> dict[str, Any]:
    """Arguments for matplotlib's text functions that draw this text, taken literally."""
    missing = {each for each in text if not _has(_glyphs(_FONT), each)}
    families = [_FONT]
    if missing and (other := next(_fonts_with(missing), None)):
        families.append(other)
    elif missing:
        text = "".join(_spelled(each) if each in missing else each for each in text)
    return {"text": text, "fontfamily": families, "parse_math": False}


def _fonts_with(characters: set[str]) -> Iterator[str]:
    for name in sorted({each.name for each in font_manager.fontManager.ttflist}):
        # "Last Resort" has a box for every character.
        if "Last Resort" not in name and all(_has(_glyphs(name), each) for each in characters):
            yield name


def _has(glyphs: frozenset[int], character: str) -> bool:
    return character.isprintable() and ord(character) in glyphs


@cache
def _glyphs(family: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(font_manager.findfont(family)).get_charmap())
    except (OSError, RuntimeError):  # a font file that matplotlib listed and cannot read
        return frozenset()


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
