"""The options by which a night is watched, each declared once, as those of the inspection are."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What a night is compared with."""

    history: str | None = field(
        default=None,
        metadata={
            "help": "folder with the outputs of earlier nights, which this one is compared with; "
            "default: the folder above the output",
            "metavar": "URI",
        },
    )
