"""The options of `vqad threshold`, each declared once."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ThresholdJob:
    """What a new threshold is for, where it comes from, and what is done with it."""

    models: str = field(metadata={"help": "folder with the detectors", "metavar": "URI"})
    category: str = field(metadata={"help": "category of the detector"})
    false_alarms: float | None = None  # rate among normal images, in (0, 1)
    per_night: int | None = field(
        default=None,
        metadata={
            "help": "number of images above the threshold in a mean night, defects that nobody "
            "confirmed included; needs --from; default: none"
        },
    )
    value: float | None = field(
        default=None,
        metadata={"help": "the threshold itself, in the unit of the scores; default: none"},
    )
    nights: tuple[str, ...] = ()  # outputs of inspections, each one night
    apply: str | None = field(
        default=None,
        metadata={
            "help": "output of an inspection whose rows get new verdicts and regions from their "
            "stored scores and maps; default: none",
            "metavar": "URI",
        },
    )
    promote: bool = field(
        default=False,
        metadata={"help": "put the new version in force; default: saved and not in force"},
    )

    def __post_init__(self) -> None:
        """Refuse what is no threshold, or more than one."""
        given = [
            name
            for name in ("false_alarms", "per_night", "value")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(
                f"give one of --false-alarms, --per-night and --value, got {flags or 'none'}"
            )
        if self.false_alarms is not None and not 0 < self.false_alarms < 1:
            raise ValueError(
                f"--false-alarms must be between 0 % and 100 %, got {100 * self.false_alarms:g} %"
            )
        if self.per_night is not None and self.per_night < 0:
            raise ValueError(f"--per-night must not be negative, got {self.per_night}")
        if self.per_night is not None and not self.nights:
            raise ValueError(
                "--per-night needs --from: how many images of a night are above a threshold "
                "follows from a night's scores alone; give --from OUTPUT"
            )
