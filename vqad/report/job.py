"""The options of one page, each declared once: `vqad report` derives its flags from them."""

from dataclasses import dataclass, field
from typing import Final

MOST_CARDS: Final = 5000  # of a page, a guess: more would need more than 100 MB of pictures


@dataclass(frozen=True, kw_only=True)
class ReportJob:
    """The options of one `vqad report`."""

    output: str = field(
        metadata={
            "help": "output of an inspection; the page is written to its folder report",
            "metavar": "URI",
        }
    )
    models: str | None = field(
        default=None,
        metadata={
            "help": "folder with the detectors, for restored pictures; default: the one in "
            "run.json",
            "metavar": "URI",
        },
    )
    history: str | None = field(
        default=None,
        metadata={
            "help": "folder with the outputs of earlier nights, which are shown beside this one; "
            "default: the folder above the output",
            "metavar": "URI",
        },
    )
    cards: int = field(
        default=200,
        metadata={"help": "number of images of each category that are shown with pictures"},
    )
    restored: int = field(
        default=100,
        metadata={
            "help": "number of images, with the highest scores first, that are shown as the "
            "detector restores them"
        },
    )

    sheets: int = field(
        default=0,
        metadata={
            "help": "number of contact sheets to write as well, with the highest scores of the "
            "latest run first"
        },
    )

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("cards", "restored", "sheets"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def cards_of(self, num_categories: int) -> int:
        """Cards of each category: fewer than asked for where a page would get too large."""
        return min(self.cards, max(1, MOST_CARDS // max(1, num_categories)))
