"""Names of folders for categories, whatever text a category is.

A category comes from outside: from a folder, from a member's path in an archive, from a table. So
it may be empty, longer than a file system's 255 bytes, in any script, or contain a slash. Both
functions here take any text, and their result is a valid folder name of 1 to 200 bytes on local
disks and on object storage. Two texts have one name only if their SHA-256 digests collide. A name
can't be turned back into its text: the category is read from its column or from detector.json.
"""

import hashlib
import re
from typing import Final
from urllib.parse import quote

# Local file systems allow 255 bytes; the rest is for what programs add to a name (a guess).
MOST_BYTES: Final = 200

# Separates a shortened name from the digest of its text. `quote` never leaves it in a name.
_MARK: Final = "!"
_DIGEST_CHARACTERS: Final = 64
_HAS_DIGEST: Final = re.compile(rf".*{_MARK}[0-9a-f]{{{_DIGEST_CHARACTERS}}}", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def encoded_name(text: str) -> str:
    """The name in ASCII: percent-encoded, but for letters, digits, spaces and ``_.-~``.

    So is a dot or an underscore at its start: pandas and pyarrow skip such folders as hidden.
    What is empty or too long when encoded is cut and ends with the digest of the text.
    """
    name = _quoted(text)
    return name if 0 < len(name) <= MOST_BYTES else _with_digest(text)


def readable_name(text: str) -> str:
    """The text itself where it can be a folder's name and is not hidden, else with its digest."""
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, as in a file name that is not UTF-8
        return _with_digest(text)
    is_name = 0 < num_bytes <= MOST_BYTES and "/" not in text and not text.startswith(".")
    # A text that looks like a name with a digest could be the name of another text.
    is_safe = not _CONTROL.search(text) and not _HAS_DIGEST.fullmatch(text)
    return text if is_name and is_safe else _with_digest(text)


def _quoted(text: str) -> str:
    name = quote(_bytes_of(text), safe=" ")
    return f"%{ord(name[0]):02X}{name[1:]}" if name.startswith((".", "_")) else name


def _with_digest(text: str) -> str:
    digest = hashlib.sha256(_bytes_of(text)).hexdigest()
    start = _quoted(text)[: MOST_BYTES - len(_MARK) - len(digest)]
    return f"{re.sub('%.?$', '', start)}{_MARK}{digest}"


def _bytes_of(text: str) -> bytes:
    """UTF-8, in which half a surrogate pair keeps a code of its own: different texts differ."""
    return text.encode("utf-8", "surrogatepass")
