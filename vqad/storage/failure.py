"""Why a storage request failed, in one stable sentence."""

from dataclasses import dataclass
from typing import Final

# Detail of the error that a conditional request raises if its condition is not met.
PRECONDITION_FAILED: Final = "the object has changed meanwhile"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A reason, as it goes into tables, logs and messages."""

    error: str  # as in the verdicts table
    detail: str
    remedy: str
    is_transient: bool = False  # a retry may succeed


BROKEN: Final = Failure(
    error="fetch_failed",
    detail="the connection broke or timed out",
    remedy="try again later",
    is_transient=True,
)
