"""Names of places: local paths as they are typed, and URIs as they are written down.

A URI (``file:///...``, ``s3://...``) is percent-encoded, a path without a scheme is not. Every
file has exactly one absolute URI, so that URIs can be compared and looked up, and in it a literal
``#`` can only separate an archive from its member.
"""

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from vqad.storage.errors import ArchiveError

# What a path in a URI may hold unencoded, less ";", which tells apart members of one name.
_PLAIN: Final = "/!$&'()*+,=:@"


def absolute(uri: str) -> str:
    """The absolute URI of a local path or URI, without a slash at its end."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise ArchiveError("an empty path names no place; give a folder or s3://bucket/prefix")
        return "file://" + encoded(os.path.normpath(Path(uri).absolute()))
    path = "#".join(encoded(decoded(part)) for part in rest.split("#")).rstrip("/")
    if scheme == "s3" and path and not path.startswith("/"):
        return f"s3://{path}"
    if scheme == "file" and rest.startswith("/"):
        return "file://" + os.path.normpath(path or "/")
    raise ArchiveError(f"{uri} is neither a local path nor s3://bucket/prefix nor file:///path")


def join(uri: str, *parts: str) -> str:
    """A place below another; ``parts`` are names or relative paths, not encoded."""
    names = [name for part in parts for name in part.split("/") if name]
    if dots := {".", ".."}.intersection(names):
        raise ValueError(f"{dots.pop()!r} is no name of a place below {uri}")
    return "/".join([uri.rstrip("/"), *(encoded(name) if "://" in uri else name for name in names)])


def relative(uri: str, archive: str) -> str:
    """Decoded path of an image below its archive; its name if it is itself the archive."""
    image, root = path_of(uri), path_of(archive)
    if is_remote(uri) == is_remote(archive):
        if image == root:
            return image.rpartition("/")[2]
        below = root.rstrip("/") + "/"
        if image.startswith(below):
            return image.removeprefix(below)
    raise ValueError(f"{uri} is not below {archive}")


def is_remote(uri: str) -> bool:
    """Whether a place is on object storage."""
    return uri.startswith("s3://")


def path_of(uri: str) -> str:
    """Decoded: an absolute local path, or bucket/key."""
    return decoded(absolute(uri).partition("://")[2])


def encoded(path: str) -> str:
    """A decoded path, percent-encoded by its bytes: a local name need not be UTF-8."""
    return quote(os.fsencode(path), safe=_PLAIN)


def decoded(path: str) -> str:
    """The inverse of ``encoded``."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
