"""Reviews: the marks that people gave to images on the page, as JSON lines.

The page saves one line per image (`report/marks.js`). A file may come from anybody, so nothing in
it is believed: every line is checked, sizes are bounded, and its score is never used.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from vqad.storage import uris
from vqad.storage.errors import VqadError

Mark = Literal["false_alarm", "defect", "unsure"]

LARGEST_LINE_BYTES: Final = 2**16  # fits whatever the bounds below allow
LONGEST_IMAGE: Final = 2**15  # more than the paths of a shard and a member, percent-encoded
MOST_REVIEWS: Final = 100_000  # in a file
_LONGEST_TEXT: Final = 1000  # UTF-16 units, as the page counts those of a remark
_LARGEST_SCORE: Final = 1e30  # that a column of float32 can have, roughly
_CLOCKS_DIFFER_BY: Final = timedelta(days=1)


class ReviewError(VqadError, ValueError):
    """A file that is not one of reviews; the message names file and line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """The mark of one image."""

    image: str  # URI
    category: str
    mark: Mark
    remark: str
    who: str
    at: datetime  # UTC
    run: str  # the run whose verdict was looked at
    model_version: str
    score: float | None  # as the page had it; None for a reject
    # Of the image's file when the review was applied; a file as the page saves it does not have it.
    source_etag: str = ""

    def line(self) -> bytes:
        """The review as a line of JSON, always with the same bytes."""
        record = asdict(self) | {"at": self.at.isoformat(timespec="milliseconds")}
        return json.dumps(record, ensure_ascii=False, sort_keys=True).encode() + b"\n"


_FIELDS: Final = tuple(each.name for each in fields(Review))
_OPTIONAL: Final = frozenset(("source_etag",))
_NUMBER_OF_MEMBER: Final = re.compile(";[1-9][0-9]*$")
_MAY_BE_EMPTY: Final = frozenset(("remark", "run", "model_version", "source_etag"))


def parse(data: bytes, place: str, *, now: datetime | None = None) -> list[Review]:
    """The reviews of a file, in its order. Raises ReviewError, which names ``place`` and the line.

    Marks may be up to a day ahead of ``now``, because clocks differ.
    """
    latest = (now or datetime.now(UTC)) + _CLOCKS_DIFFER_BY
    found = []
    for number, line in _lines(data):
        try:
            found.append(_review(line, latest))
        except (ValueError, RecursionError) as error:
            raise ReviewError(
                f"{place}, line {number}: {_reason(error)}; save the marks from the page again, or "
                "remove this line"
            ) from error
        if len(found) > MOST_REVIEWS:
            raise ReviewError(f"{place} has more than {MOST_REVIEWS} lines; split the file")
    if not found:
        raise ReviewError(f"{place} has no reviews; give a file that the page saved")
    return found


def latest_by_image(reviews: Iterable[Review]) -> dict[str, Review]:
    """The latest review of each image. Of two of the same time, their bytes decide, not an order.

    A review that was applied comes after the same one as the page saved it.
    """
    latest: dict[str, Review] = {}
    for each in reviews:
        other = latest.get(each.image)
        if other is None or _order(each) > _order(other):
            latest[each.image] = each
    return latest


def _order(review: Review) -> tuple[Any, ...]:
    return review.at, bool(review.source_etag), review.line()


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield number, line


def _review(line: bytes, latest: datetime) -> Review:
    if len(line) > LARGEST_LINE_BYTES:
        raise ValueError(f"{len(line)} bytes, more than {LARGEST_LINE_BYTES}")
    found = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_refuse_number)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object of JSON, got {_shown(found)}")
    _check_names(found)
    for name in _FIELDS:
        if name in found and name != "score":
            _check_text(name, found[name])
    if found["mark"] not in get_args(Mark):
        raise ValueError(
            f"mark must be one of {', '.join(get_args(Mark))}, got {_shown(found['mark'])}"
        )
    _check_image(found["image"])
    return Review(**found | {"at": _time(found["at"], latest), "score": _score(found["score"])})


def _check_names(found: dict[str, Any]) -> None:
    missing = [name for name in _FIELDS if name not in found and name not in _OPTIONAL]
    others = sorted(found.keys() - set(_FIELDS))
    if missing or others:
        no = [f"no {', '.join(missing)}"] if missing else []
        unknown = [f"an unknown {', '.join(map(_shown, others[:5]))}"] if others else []
        raise ValueError(f"it has {' and '.join([*no, *unknown])}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {_shown(value)}")
    if not value and name not in _MAY_BE_EMPTY:
        raise ValueError(f"{name} must not be empty")
    # The encoding fails for half a surrogate pair.
    num_units = len(value.encode("utf-16-le")) // 2
    most = LONGEST_IMAGE if name == "image" else _LONGEST_TEXT
    if num_units > most:
        raise ValueError(f"{name} has {num_units} characters, more than {most}")
    if any(unicodedata.category(each) == "Cc" for each in value):
        raise ValueError(f"{name} must not have control characters, got {_shown(value)}")


def _check_image(image: str) -> None:
    plain = _NUMBER_OF_MEMBER.sub("", image) if "#" in image else image
    try:
        is_absolute = "://" in image and uris.absolute(plain) == plain
    except ValueError:
        is_absolute = False
    if not is_absolute:
        raise ValueError(f"image must be the URI of an image, got {_shown(image)}")


def _time(text: str, latest: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"at must be a time of ISO 8601, got {_shown(text)}") from None
    if at.tzinfo is None:
        raise ValueError(f"at must have a time zone, got {_shown(text)}")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"at must be a time of ISO 8601, got {_shown(text)}") from None
    if at > latest:
        # It would replace every later mark of its image.
        raise ValueError(f"at is in the future, {text}; check the clock of the browser's machine")
    return at


def _score(value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -_LARGEST_SCORE <= value <= _LARGEST_SCORE:
        raise ValueError(f"score must be a number or null, got {_shown(value)}")
    return float(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse_number(text: str) -> None:
    raise ValueError(f"{text} is not a number of JSON")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not Unicode text in UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({error.msg}, column {error.colno})"
    return str(error)


def _shown(value: Any) -> str:
    """A value that somebody else wrote, short and without control characters."""
    return ascii(value)[:60]
