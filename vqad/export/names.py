"""Names of exported files and images, whatever an image is called.

Other programs join these names with folders, put them into URLs and show them. So a name of a file
consists of ASCII letters, digits and ``._-``, and nothing leads out of a folder.
"""

import hashlib
import re
from typing import Final

from vqad.storage.uris import decoded, is_remote, path_of, relative

_DIGEST_CHARACTERS: Final = 24  # of 64: 96 bits, so that no two names of one export collide
_MOST_CHARACTERS: Final = 80  # before the digest (a guess)
_PLAIN_FOLDER: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_MOST_CHARACTERS - 1}}}")
_HAS_DIGEST: Final = re.compile(rf".*-[0-9a-f]{{{_DIGEST_CHARACTERS}}}")


def folder_name(category: str) -> str:
    """The folder of a category: its name where that is plain, else with a digest."""
    is_plain = _PLAIN_FOLDER.fullmatch(category) and not _HAS_DIGEST.fullmatch(category)
    return category if is_plain else _with_digest(category, category)


def mask_name(image: str) -> str:
    """The file name of an image's mask, by the image's URI, which alone decides it."""
    name = _decoded_name(image.rpartition("/")[2])
    return f"{_with_digest(name.rpartition('.')[0] or name, image)}.png"


def _decoded_name(name: str) -> str:
    return decoded(name.partition(";")[0])


def _with_digest(text: str, decides: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip("._-")[:_MOST_CHARACTERS]
    data = decides.encode("utf-8", "surrogatepass")
    return f"{plain or 'x'}-{hashlib.sha256(data).hexdigest()[:_DIGEST_CHARACTERS]}"


def file_name(image: str, archive: str) -> str:
    """The path of an image below its archive, as labelling tools join it with a folder.

    An image that is not below the archive has its whole path; a shard counts as a folder.
    """
    shard, separator, member = image.partition("#")
    path = _below(shard, archive)
    if separator:
        # A member's name comes from outside: it must not lead out of the shard.
        path = "/".join([path, *_safe(_decoded_name(member).split("/"))])
    # Only a key of a bucket can have such names here.
    names = [_safe_name(each) for each in path.split("/")]
    return "/".join(names).encode("utf-8", "replace").decode()


def _below(uri: str, archive: str) -> str:
    try:
        return relative(uri, archive)
    except ValueError:
        return path_of(uri) if not is_remote(uri) else path_of(uri).lstrip("/")


def _safe(names: list[str]) -> list[str]:
    return [_safe_name(each) for each in names if each not in ("", ".")]


def _safe_name(name: str) -> str:
    return "%2E%2E" if name == ".." else name
