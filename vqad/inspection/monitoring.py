"""The options by which a night is watched, each declared once, as those of the inspection are.

`vqad inspect` derives its flags from them.
"""

import re
from dataclasses import dataclass, field
from typing import Final

_URL: Final = re.compile(r"https?://[^\s/@?#\\]+(?:[/?][^\s#\\]*)?")


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What a night is compared with, and who hears of it."""

    history: str | None = field(
        default=None,
        metadata={
            "help": "folder with the outputs of earlier nights, which this one is compared with; "
            "default: the folder above the output",
            "metavar": "URI",
        },
    )
    max_reject_fraction: float = field(
        default=0.05,
        metadata={
            "help": "share of rejected images, from 0 to 1, above which the exit code is 1",
        },
    )
    max_defect_fraction: float | None = field(
        default=None,
        metadata={
            "help": "share of defective images, from 0 to 1, above which the exit code is 1; "
            "default: no limit"
        },
    )
    notify: str | None = field(
        default=None,
        metadata={
            "help": "URL that gets the summary and the warnings as JSON when the run has ended, "
            "signed with VQAD_NOTIFY_SECRET if that is set; default: none",
            "metavar": "URL",
        },
    )

    def __post_init__(self) -> None:
        """Refuse shares that are none, and what is not a plain URL."""
        for name in ("max_reject_fraction", "max_defect_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value:g}")
        if self.notify is not None and not _URL.fullmatch(self.notify):
            # It is not shown: it may contain a password.
            raise ValueError(
                "notify must be http://HOST/... or https://HOST/... without a user name or a "
                "password; give such a URL, and the secret in VQAD_NOTIFY_SECRET"
            )


def shown_url(url: str) -> str:
    """The URL as it may be shown: its path and query often are the key to a chat's channel."""
    return re.sub(r"(https?://[^/?#\s]+)[/?#]\S*", r"\1/...", url)
