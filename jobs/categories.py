"""Category names given with an option, checked against the categories that exist."""

import difflib
from collections.abc import Collection, Iterable

from jobs.options import UsageError


def check(given: Iterable[str], existing: Collection[str], place: str, *, option: str) -> None:
    """Raise UsageError if a given category does not exist; the message suggests similar names.

    ``place`` is the folder in which the categories were looked for.
    """
    unknown = sorted(set(given) - set(existing))
    if unknown:
        raise UsageError(
            f"{option}: {place} has no {_listed(unknown)}; {_suggestion(unknown, existing)}"
        )


def _suggestion(unknown: Iterable[str], existing: Collection[str]) -> str:
    """The names that are most similar to the unknown ones, else all names."""
    lower = {name.lower(): name for name in existing}
    nearest = {
        lower[match]: None
        for name in unknown
        for match in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.7)
    }
    if nearest:
        return f"did you mean {' or '.join(nearest)}?"
    return f"there are: {_listed(sorted(existing)) or 'none'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
