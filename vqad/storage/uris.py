"""URIs and local paths: conversion, joining and comparison.

A URI (``file:///...``, ``s3://...``) is percent-encoded; a path without a scheme is not. Every
file has exactly one absolute URI, so that URIs can be compared and used as keys. A literal ``#``
in a URI always separates an archive from its member.
"""

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from vqad.storage.errors import ArchiveError

# Characters that a URI path may contain unencoded, except ";": it numbers members of equal name.
_PLAIN: Final = "/!$&'()*+,=:@"

# User and password of a URL. A secret key may contain slashes; a user name does not.
_USER_AND_PASSWORD: Final = re.compile(r"(?<=://)[^\s/@:]*:[^\s@]*@")


def absolute(uri: str) -> str:
    """The absolute URI of a local path or URI, without a trailing slash.

    Raises ArchiveError, also for a URI with a user name or a key in it, which is not repeated.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri:
            raise ArchiveError("the path is empty; give a folder or s3://bucket/prefix")
        return "file://" + encoded(os.path.normpath(Path(uri).absolute()))
    _refuse_secrets(scheme, rest)
    path = "#".join(encoded(decoded(part)) for part in rest.split("#")).rstrip("/")
    if scheme == "s3" and path and not path.startswith("/"):
        return f"s3://{path}"
    if scheme == "file" and rest.startswith("/"):
        return "file://" + os.path.normpath(path or "/")
    shown = uri.partition("?")[0]  # a query may contain a signature
    raise ArchiveError(f"{shown} is neither a local path nor s3://bucket/prefix nor file:///path")


def _refuse_secrets(scheme: str, rest: str) -> None:
    """Refuse what looks like a user or a key before the host or bucket; the text is not shown."""
    first = decoded(rest.partition("/")[0])
    # No bucket has a colon in its name, but for the long names of access points. A colon before a
    # slash may also be the beginning of a secret that has a slash in it.
    has_key = scheme == "s3" and ":" in first and not first.startswith("arn:")
    if "@" in first or has_key or (scheme not in ("s3", "file") and "@" in decoded(rest)):
        raise ArchiveError(
            "a URI with a user name or a key in it is refused, and not repeated here; give "
            "s3://bucket/prefix, and the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def without_secrets(text: str) -> str:
    """The text without users and passwords of URLs, for errors of other libraries."""
    return _USER_AND_PASSWORD.sub("***@", text)


def join(uri: str, *parts: str) -> str:
    """A path or URI below another; ``parts`` are names or relative paths, not encoded."""
    names = [name for part in parts for name in part.split("/") if name]
    if dots := {".", ".."}.intersection(names):
        raise ValueError(f"{dots.pop()!r} is not a valid name below {uri}")
    return "/".join([uri.rstrip("/"), *(encoded(name) if "://" in uri else name for name in names)])


def relative(uri: str, archive: str) -> str:
    """Decoded path of an image relative to its archive; its name if it is the archive itself."""
    image, root = path_of(uri), path_of(archive)
    if is_remote(uri) == is_remote(archive):
        if image == root:
            return image.rpartition("/")[2]
        below = root.rstrip("/") + "/"
        if image.startswith(below):
            return image.removeprefix(below)
    raise ValueError(f"{uri} is not below {archive}")


def is_remote(uri: str) -> bool:
    """True for a URI on object storage."""
    return uri.startswith("s3://")


def path_of(uri: str) -> str:
    """The decoded path of a URI: an absolute local path, or bucket/key."""
    return decoded(absolute(uri).partition("://")[2])


def encoded(path: str) -> str:
    """Percent-encode the bytes of a path; a local file name need not be UTF-8."""
    return quote(os.fsencode(path), safe=_PLAIN)


def decoded(path: str) -> str:
    """The inverse of ``encoded``."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))


def endpoint() -> str:
    """The S3 endpoint from the standard AWS variables; "" means AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
