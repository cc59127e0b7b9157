"""Which category an image of an archive is of, and so which detector looks at it."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from vqad.images import listing, manifests
from vqad.storage import uris
from vqad.storage.uris import decoded, path_of
from vqad.tables import UNKNOWN_CATEGORY


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How to tell; the first that is given counts, else the first folder below the archive."""

    category: str | None = field(
        default=None,
        metadata={"help": "category of all images; default: the first folder below the archive"},
    )
    manifest: str | None = field(
        default=None,
        metadata={
            "help": "Parquet or CSV file with the columns image and category; default: none",
            "metavar": "URI",
        },
    )
    category_pattern: str | None = field(
        default=None,
        metadata={
            "help": "regular expression that is searched in the path below the archive; its first "
            "group is the category; default: none"
        },
    )

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


@dataclass(frozen=True, kw_only=True)
class Router:
    """A routing of one archive, with its manifest read."""

    archive: str  # URI; "" where the images lie anywhere
    routing: Routing
    by_image: Mapping[str, str] = field(default_factory=dict)  # the manifest's categories

    def category(self, image: str) -> str:
        """Of an image by its URI, ``_unknown`` where it can't be told."""
        if self.routing.category is not None:
            return self.routing.category
        if self.routing.manifest is not None:
            shard = image.partition("#")[0]
            return self.by_image.get(image) or self.by_image.get(shard, UNKNOWN_CATEGORY)
        if self.routing.category_pattern is not None:
            found = re.search(self.routing.category_pattern, self.path(image))
            return (found.group(1) if found else None) or UNKNOWN_CATEGORY
        shard, separator, member = image.partition("#")
        path = self.path(shard)
        if separator:  # a shard's own name is that of no category, the folders in it may be
            path = posixpath.join(posixpath.dirname(path), _name(member))
        folder, _, rest = path.partition("/")
        return folder if rest else UNKNOWN_CATEGORY

    def path(self, image: str) -> str:
        """Decoded, below the archive; a shard is like a folder of this name."""
        shard, separator, member = image.partition("#")
        path = uris.relative(shard, self.archive) if self.archive else path_of(shard).lstrip("/")
        return f"{path}/{_name(member)}" if separator else path

    def of_shard(self, shard: str) -> "Router":
        """What of it is needed for the members of one shard."""
        below = f"{shard}#"
        kept = {
            image: category
            for image, category in self.by_image.items()
            if image == shard or image.startswith(below)
        }
        return replace(self, by_image=kept)


def _name(member: str) -> str:
    return decoded(member.partition(";")[0])


def router(archive: str, routing: Routing) -> Router:
    """Read the manifest, if there is one. Raises ValueError where it is no such table."""
    by_image = manifests.read(routing.manifest) if routing.manifest else {}
    return Router(archive=archive, routing=routing, by_image=by_image)


def route(
    listed: Iterable[listing.Listed], archive: str, routing: Routing
) -> Iterator[tuple[listing.Listed, str]]:
    """Each image with its category, ``_unknown`` where it can't be told."""
    found = router(archive, routing)
    for each in listed:
        yield each, found.category(each.image)
