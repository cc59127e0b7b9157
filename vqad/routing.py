"""Which category an image of an archive is of, and so which detector looks at it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO

import pandas as pd

from vqad import archives
from vqad.tables import UNKNOWN_CATEGORY

LARGEST_MANIFEST_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How to tell; the first that is given counts, else the first folder below the archive."""

    category: str | None = None  # of every image
    manifest: str | None = None  # URI of a Parquet or CSV file with columns image, category
    category_pattern: str | None = None  # its first group, searched in the path below the archive

    def __post_init__(self) -> None:
        """Refuse contradictions and patterns that could never name a category."""
        given = [
            name
            for name in ("category", "manifest", "category_pattern")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(
                f"give only one of category, manifest and category_pattern, got {given}"
            )
        if self.category_pattern is not None:
            try:
                num_groups = re.compile(self.category_pattern).groups
            except re.error as error:
                raise ValueError(
                    f"category_pattern {self.category_pattern!r} is no pattern: {error}"
                ) from error
            if not num_groups:
                raise ValueError(
                    f"category_pattern needs a group that names the category, such as "
                    f"'([a-z]+)_[0-9]+', got {self.category_pattern!r}"
                )


def route(
    listed: Iterable[archives.Listed], archive: str, routing: Routing
) -> Iterator[tuple[archives.Listed, str]]:
    """Each image with its category, ``_unknown`` where it can't be told."""
    by_image = read_manifest(routing.manifest) if routing.manifest else {}
    for each in listed:
        if routing.category is not None:
            yield each, routing.category
        elif routing.manifest is not None:
            yield each, by_image.get(each.image, UNKNOWN_CATEGORY)
        else:
            path = archives.relative(each.image, archive)
            yield each, _of_path(path, routing.category_pattern)


def _of_path(path: str, pattern: str | None) -> str:
    if pattern is not None:
        found = re.search(pattern, path)
        return (found.group(1) if found else None) or UNKNOWN_CATEGORY
    folder, _, rest = path.partition("/")
    return folder if rest else UNKNOWN_CATEGORY


def read_manifest(uri: str) -> dict[str, str]:
    """Categories by image URI. Raises ValueError where the file is not such a table."""
    try:
        data = archives.read_bytes(uri, max_bytes=LARGEST_MANIFEST_BYTES)
    except archives.FetchError as error:
        raise ValueError(f"manifest {uri}: {error}") from error
    try:
        table = (
            pd.read_csv(BytesIO(data), dtype=str, keep_default_na=False)
            if uri.lower().endswith(".csv")
            else pd.read_parquet(BytesIO(data), columns=["image", "category"])
        )
        images, categories = (table[name].fillna("").astype(str) for name in ("image", "category"))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"manifest {uri} must be Parquet or CSV with columns image and category: {error}"
        ) from error
    rows = zip(images, categories, strict=True)
    return {archives.absolute(image): category or UNKNOWN_CATEGORY for image, category in rows}
