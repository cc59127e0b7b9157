"""The version of a detector that is in force, and the log of every change of it.

    MODELS/CATEGORY FOLDER/current.json           the version, and NAME of the change that set it
    MODELS/CATEGORY FOLDER/promotions/NAME.json   one change: who, when, from, to, why, after

current.json alone decides, and one write changes it. No write changes two files at once, so the
entry of the log is written first, and current.json names it. A kill between the two leaves an entry
that nothing names: it is shown as not carried out, and the old version stays in force. Each entry
names the one that it follows, so the changes that were carried out are those on the way back from
current.json. Every entry is an object of its own, because object storage can't append to a file.
"""

import getpass
import os
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from vqad.storage import conditional_writes, files, json_objects, models_layout
from vqad.storage.errors import ArchiveError, VqadError

Action = Literal["promote", "rollback"]

_LARGEST_BYTES: Final = 2**16
_NUM_READERS: Final = 16  # threads
_ATTEMPTS: Final = 8  # a guess: as many others may change the same category at the same moment


class InForceError(VqadError, ValueError):
    """The version in force can't be changed as was asked."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of the log."""

    name: str  # of the entry
    at: str  # ISO 8601, UTC
    who: str
    action: Action
    from_version: str  # "" if none was in force
    to_version: str
    why: str
    after: str  # name of the entry that was in force before; "" if there was none
    carried_out: bool = True

    def record(self) -> dict[str, Any]:
        """The entry as it is stored."""
        return {
            "at": self.at,
            "who": self.who,
            "action": self.action,
            "from": self.from_version,
            "to": self.to_version,
            "why": self.why,
            "after": self.after,
        }


@dataclass(frozen=True, kw_only=True)
class _Current:
    version: str  # "" if none is in force
    promotion: str  # name of its entry; "" if it was written by hand or by an older program
    tag: str | None  # of current.json; None if there is none


def put_in_force(
    models: str,
    category: str,
    version: str,
    *,
    who: str,
    why: str,
    action: Action = "promote",
    only_from: str | None = None,
) -> Change | None:
    """Make a version the one in force, and log it; None if it is in force already.

    The caller has made sure that the version can be loaded. Raises InForceError if ``only_from`` is
    given and another version than that is in force, and ArchiveError.
    """
    for _ in range(_ATTEMPTS):
        now = _current(models, category)
        if only_from is not None and now.version != only_from:
            break
        if now.version == version:
            return None
        change = _entry(now, version, who=who, why=why, action=action)
        entry = models_layout.promotion(models, category, change.name)
        files.write_bytes(entry, json_objects.encoded(change.record()))
        data = json_objects.encoded({"version": version, "promotion": change.name})
        uri = models_layout.current(models, category)
        if conditional_writes.swap(uri, data, tag=now.tag):
            return change
    raise InForceError(
        f"{category}: somebody else is changing the version in force, which is now "
        f"{_current(models, category).version or 'none'}; see vqad models show, and try again"
    )


def version_in_force(models: str, category: str) -> str:
    """The version that current.json names; "" if there is none."""
    return _current(models, category).version


def version_before(models: str, category: str) -> str:
    """The version that was in force before the last promotion that was not rolled back.

    Raises InForceError if the log has none.
    """
    was: list[str] = []
    for change in _carried_out(models, category):
        if not was or was[-1] != change.from_version:
            was.append(change.from_version)  # the first one, or one that was put there by hand
        if change.action == "rollback":
            while was and was[-1] != change.to_version:
                was.pop()
        if not was or was[-1] != change.to_version:
            was.append(change.to_version)
    current = version_in_force(models, category)
    if current and (not was or was[-1] != current):
        was.append(current)
    if len(was) < 2 or not was[-2]:
        raise InForceError(
            f"{category}: the log knows no version that was in force before "
            f"{current or 'this'}; see vqad models list, and promote one by its name"
        )
    return was[-2]


def history(models: str, category: str) -> list[Change]:
    """Every entry of the log, the oldest first. Raises ArchiveError for one that can't be read."""
    folder = models_layout.promotions(models, category)
    if not files.exists(folder):
        return []
    names = [each.removesuffix(".json") for each in files.list_names(folder)]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        found = list(pool.map(lambda name: _read(models, category, name), names))
    named = {each.after for each in found} | {_current(models, category).promotion}
    return [_marked(each, carried_out=each.name in named) for each in found]


def default_who() -> str:
    """USER@HOST of this process, for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _carried_out(models: str, category: str) -> list[Change]:
    """The changes on the way back from current.json, the oldest first."""
    by_name = {each.name: each for each in history(models, category)}

    def back(name: str) -> Iterator[Change]:
        while name in by_name:  # each is taken once, so that a circle ends
            change = by_name.pop(name)
            yield change
            name = change.after

    return list(back(_current(models, category).promotion))[::-1]


def _entry(now: _Current, version: str, *, who: str, why: str, action: Action) -> Change:
    at = datetime.now(UTC)
    return Change(
        name=f"{at:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}",
        at=at.isoformat(timespec="milliseconds"),
        who=who,
        action=action,
        from_version=now.version,
        to_version=version,
        why=why,
        after=now.promotion,
    )


def _current(models: str, category: str) -> _Current:
    uri = models_layout.current(models, category)
    found = conditional_writes.read(uri)
    if found is None:
        return _Current(version="", promotion="", tag=None)
    content = _object(uri, found[0], 'write {"version": "NAME"} into it')
    version, promotion = content.get("version"), content.get("promotion", "")
    if not isinstance(version, str):
        raise ArchiveError(f'{uri} names no version; write {{"version": "NAME"}} into it')
    return _Current(
        version=version,
        promotion=promotion if isinstance(promotion, str) else "",
        tag=found[1],
    )


def _read(models: str, category: str, name: str) -> Change:
    uri = models_layout.promotion(models, category, name)
    remedy = "move it away: it is not an entry of the log"
    entry = _object(uri, files.read_bytes(uri, max_bytes=_LARGEST_BYTES), remedy)
    texts = {key: entry.get(key) for key in ("at", "who", "action", "from", "to", "why", "after")}
    if not all(isinstance(each, str) for each in texts.values()):
        raise ArchiveError(f"{uri} lacks a text of at, who, action, from, to, why, after; {remedy}")
    before, after = texts.pop("from"), texts.pop("to")
    return Change(name=name, from_version=before, to_version=after, **texts)  # type: ignore[arg-type]


def _marked(change: Change, *, carried_out: bool) -> Change:
    return Change(**{**vars(change), "carried_out": carried_out})


def _object(uri: str, data: bytes, remedy: str) -> dict[str, Any]:
    try:
        return json_objects.decoded(data)
    except ValueError as error:
        raise ArchiveError(f"{uri} {error}; {remedy}") from error
