"""Routing: find the category of an image, which decides which detector inspects it."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vqad.images import manifests
from vqad.images.name_patterns import check_pattern
from vqad.storage import uris
from vqad.storage.uris import decoded, path_of
from vqad.tables import UNKNOWN_CATEGORY


@dataclass(frozen=True, kw_only=True)
class Routing:
    """The rule for categories: at most one field is given.

    Without any, the category is the name of the first folder below the archive.
    """

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
        """Refuse contradictory fields, and patterns that can't name a category."""
        given = [
            name
            for name in ("category", "manifest", "category_pattern")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(
                f"give only one of category, manifest and category_pattern, got {given}"
            )
        if self.category == "":
            raise ValueError("category must not be empty; give a name or leave it out")
        if self.category_pattern is not None:
            check_pattern(
                "category_pattern",
                self.category_pattern,
                names="the category",
                example="([a-z]+)_[0-9]+",
            )


@dataclass(frozen=True, kw_only=True)
class Router:
    """Tells the category of each image of one archive."""

    archive: str  # URI; "" if the images have no common archive (a manifest)
    routing: Routing
    by_image: Mapping[str, str] = field(default_factory=dict)  # categories in the manifest

    def category(self, image: str) -> str:
        """The category of an image URI; ``_unknown`` if the rule gives none.

        Nor is a folder whose name is not UTF-8 a category: no table can contain such a name.
        """
        found = self._found(image)
        return found if found and _is_unicode(found) else UNKNOWN_CATEGORY

    def _found(self, image: str) -> str | None:
        if self.routing.category is not None:
            return self.routing.category
        if self.routing.manifest is not None:
            shard = image.partition("#")[0]
            return self.by_image.get(image) or self.by_image.get(shard)
        if self.routing.category_pattern is not None:
            found = re.search(self.routing.category_pattern, self.path(image))
            return found.group(1) if found else None
        shard, separator, member = image.partition("#")
        path = self.path(shard)
        if separator:  # the folders in a shard may name a category, the shard's file name may not
            # Not joined as paths: a member's "/x/1.png" is not at the root of this machine.
            path = f"{posixpath.dirname(path)}/{_name(member)}"
        return _first_folder(path)

    def path(self, image: str) -> str:
        """Decoded path of an image below the archive; a shard counts as a folder of its name."""
        shard, separator, member = image.partition("#")
        path = uris.relative(shard, self.archive) if self.archive else path_of(shard).lstrip("/")
        return f"{path}/{_name(member)}" if separator else path

    def of_shard(self, shard: str) -> "Router":
        """A smaller router that knows the members of this shard only."""
        below = f"{shard}#"
        kept = {
            image: category
            for image, category in self.by_image.items()
            if image == shard or image.startswith(below)
        }
        return replace(self, by_image=kept)


def _first_folder(path: str) -> str | None:
    """The first folder of a path as an archive may spell it: ``a/1.png``, ``/a/1.png``, ``.//a/1``.

    None if there is no folder, or if the path leads out of the archive.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    return names[0] if len(names) > 1 and names[0] != ".." else None


def _is_unicode(text: str) -> bool:
    """False if a byte of a file name that is not UTF-8 is in the text, as half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _name(member: str) -> str:
    return decoded(member.partition(";")[0])


def router(archive: str, routing: Routing) -> Router:
    """Read the manifest, if there is one; raises ValueError if it is not a valid manifest."""
    by_image = manifests.read(routing.manifest) if routing.manifest else {}
    return Router(archive=archive, routing=routing, by_image=by_image)
